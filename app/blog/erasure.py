"""Erasure of a user's posts, with covers and statistics, of the subscriptions to the user as an author, and of those of
the verified address."""

from __future__ import annotations

from typing import Any

from app.blog.models import Post, Subscription
from app.blog.subscriptions.services import address_find, addresses_delete
from app.blog.tasks import invalidate_caches, reindex_post


def erase(user: Any) -> None:
    """Delete the user's data. Call this in a transaction. Tasks then update search index, caches and files."""
    posts = Post.objects.filter(author_id=user.pk)
    # Locked before anything of theirs is deleted, as in `services.post_delete`: a chunk of a mailing may be recording.
    statuses = list(posts.select_for_update().order_by("pk").values_list("pk", "status"))
    published = [pk for pk, status in statuses if status == Post.Status.PUBLISHED]
    # The address before its subscriptions, as wherever they change: an author may subscribe to herself. An unverified
    # address may belong to somebody else.
    if user.email_verified_at:
        addresses_delete(address_find(user.email))
    posts.delete()
    for pk in published:
        reindex_post.delay(pk)
    if published:
        invalidate_caches.delay(published[0])
    Subscription.objects.filter(author_id=user.pk).delete()
