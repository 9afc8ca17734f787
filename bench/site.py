"""``BENCH_SITE=pressroom gunicorn bench.site``: the site, except that a new post calls a task in its transaction.

BENCH_SITE is a key of `bench.figures.SITES`: by which queue it is called.
"""

import os
from collections.abc import Callable

from django.conf import settings

settings.ROOT_URLCONF = __name__

from app.wsgi import application  # noqa: E402 - this loads Django, which must know the routes below

__all__ = ["application", "urlpatterns"]

from django.db import transaction  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.serializers import BaseSerializer  # noqa: E402

from app.blog.api import PostViewSet  # noqa: E402
from app.blog.models import Post  # noqa: E402
from app.urls import urlpatterns as of_the_site  # noqa: E402
from bench.measure import PAYLOAD  # noqa: E402


def call_of(site: str) -> Callable[[int, str], object] | None:
    """Return what calls the task within a transaction, or None if nothing is called."""
    if site == "pressroom":
        from bench.peers.ours import durable

        return durable.delay
    if site == "celery":
        from bench.peers.celery_acks_late import app

        return app.tasks["bench.noop"].delay_on_commit
    if site == "oban":
        from bench.peers.oban import call_in_django

        return call_in_django
    return None


CALL = call_of(os.environ["BENCH_SITE"])


class PostsWithTask(PostViewSet):
    """The site's view, with a task for each new post."""

    def perform_create(self, serializer: BaseSerializer[Post]) -> None:
        with transaction.atomic():
            super().perform_create(serializer)
            assert serializer.instance is not None
            if CALL is not None:
                CALL(serializer.instance.pk, PAYLOAD)


urlpatterns = [path("api/posts/", PostsWithTask.as_view({"get": "list", "post": "create"})), *of_the_site]
