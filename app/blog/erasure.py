"""Of a deleted account: its posts with covers and statistics go, and the subscription of its verified address."""

from __future__ import annotations

from typing import Any

from app.blog.models import Post, Subscriber
from app.blog.tasks import invalidate_caches, reindex_post


def erase(user: Any) -> None:
    """Call it in a transaction: search index, caches and files follow it by tasks."""
    posts = Post.objects.filter(author_id=user.pk)
    published = list(posts.filter(status=Post.Status.PUBLISHED).values_list("pk", flat=True))
    posts.delete()
    for pk in published:
        reindex_post.delay(pk)
    if published:
        invalidate_caches.delay(published[0])
    # An address that was only claimed may be somebody else's.
    if user.email_verified_at:
        Subscriber.objects.filter(email__iexact=user.email).delete()
