"""A post."""

import pytest
from django.db import transaction

from app.accounts.models import User
from app.blog import services
from app.blog.models import Post


@pytest.fixture
def draft(author: User) -> Post:
    return services.post_create(author=author, title="On <b>queues</b>", body="A queue forgets.\n\nA table does not.")


@pytest.fixture
def published(draft: Post) -> Post:
    with transaction.atomic():
        services.post_publish(post_id=draft.pk)
    draft.refresh_from_db()
    return draft
