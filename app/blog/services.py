"""The business logic of posts and subscriptions. It knows neither HTTP nor Celery."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from app.blog.figures import deliveries_by_day as deliveries_by_day  # noqa: PLC0414 - other apps import these from here
from app.blog.figures import posts_published as posts_published  # noqa: PLC0414
from app.blog.figures import subscribers_count as subscribers_count  # noqa: PLC0414
from app.blog.figures import subscribers_listed as subscribers_listed  # noqa: PLC0414
from app.blog.figures import subscriptions_by_day as subscriptions_by_day  # noqa: PLC0414
from app.blog.models import Cover, Post
from app.blog.statistics import Activity as Activity  # noqa: PLC0414 - other apps import these from here
from app.blog.statistics import activity_figures as activity_figures  # noqa: PLC0414

FEED_KEY, SITEMAP_KEY = "rss:feed", "sitemap:posts"


def post_create(*, author: Any, title: str, body: str) -> Post:
    """Create a draft with a slug made from its title. Concurrent calls get different slugs."""
    slug = _slug(title)
    while True:
        taken = Post.objects.filter(slug=slug).exists()
        try:
            if not taken:
                with transaction.atomic():
                    return Post.objects.create(author=author, title=title, body=body, slug=slug)
        except IntegrityError:
            # Another post has taken the slug in between. If not, the error has another cause.
            if not Post.objects.filter(slug=slug).exists():
                raise
        slug = f"{_slug(title)}-{secrets.token_hex(4)}"


def _slug(title: str) -> str:
    return slugify(title, allow_unicode=True)[:60].strip("-") or "post"


def post_change(*, post_id: int, fields: dict[str, Any]) -> Post:
    """Set only the given fields, so that a concurrent publication is not undone. Call this in a transaction.

    Raises Post.DoesNotExist.
    """
    post = Post.objects.select_for_update().get(pk=post_id)
    for name, value in fields.items():
        setattr(post, name, value)
    post.save(update_fields=[*fields, "updated_at"])
    return post


def post_delete(*, post_id: int) -> str | None:
    """Delete a post. Call this in a transaction. Returns the status that it had, or None if it does not exist."""
    post = Post.objects.select_for_update().filter(pk=post_id).first()
    if post is None:
        return None
    status = post.status
    post.delete()
    return status


def post_publish(*, post_id: int) -> bool:
    """Publish a draft. Call this in a transaction. Returns False if it was published already.

    Raises Post.DoesNotExist.
    """
    post = Post.objects.select_for_update().get(pk=post_id)
    if post.status == Post.Status.PUBLISHED:
        return False
    post.status = Post.Status.PUBLISHED
    post.published_at = timezone.now()
    post.save(update_fields=["status", "published_at", "updated_at"])
    return True


def cover_fail(*, cover_id: int, reason: str) -> bool:
    """Record that the cover could not be resized. Its original is kept. Returns False if it was resized or is gone."""
    return bool(Cover.objects.filter(pk=cover_id, ready_at=None).update(failure=reason))


def cover_resume(*, cover_id: int) -> bool:
    """Record that the cover is being resized again. Returns False if it had not failed."""
    return bool(Cover.objects.filter(pk=cover_id, ready_at=None).exclude(failure="").update(failure=""))


def caches_invalidate() -> None:
    """Remove the rendered feed and sitemap from the cache."""
    cache.delete_many([FEED_KEY, SITEMAP_KEY])
