"""Erasure of a user's posts, with covers and statistics, of the subscriptions to the user as an author, and of those of
the verified address."""

from __future__ import annotations

from typing import Any

from app.blog.models import Post, Subscriber, Subscription
from app.blog.tasks import invalidate_caches, reindex_post


def erase(user: Any) -> None:
    """Delete the user's data. Call this in a transaction. Tasks then update search index, caches and files."""
    posts = Post.objects.filter(author_id=user.pk)
    published = list(posts.filter(status=Post.Status.PUBLISHED).values_list("pk", flat=True))
    posts.delete()
    for pk in published:
        reindex_post.delay(pk)
    if published:
        invalidate_caches.delay(published[0])
    Subscription.objects.filter(author_id=user.pk).delete()
    # An unverified address may belong to somebody else.
    if user.email_verified_at:
        Subscriber.objects.filter(email__iexact=user.email).delete()
