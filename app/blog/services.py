"""What is done with posts and subscriptions. Knows nothing of HTTP and nothing of Celery."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from app.blog.figures import deliveries_by_day as deliveries_by_day  # noqa: PLC0414 - for other apps, as all below
from app.blog.figures import posts_published as posts_published  # noqa: PLC0414
from app.blog.figures import subscribers_count as subscribers_count  # noqa: PLC0414
from app.blog.figures import subscribers_listed as subscribers_listed  # noqa: PLC0414
from app.blog.figures import subscriptions_by_day as subscriptions_by_day  # noqa: PLC0414
from app.blog.models import Post, Subscriber, unsubscribe_token
from app.blog.statistics import Activity as Activity  # noqa: PLC0414 - for other apps, as the next one
from app.blog.statistics import activity_figures as activity_figures  # noqa: PLC0414

FEED_KEY, SITEMAP_KEY = "rss:feed", "sitemap:posts"


def post_create(*, author: Any, title: str, body: str) -> Post:
    """A draft of ``author``'s."""
    return Post.objects.create(author=author, title=title, body=body, slug=_free_slug(title))


def _free_slug(title: str) -> str:
    base = slugify(title, allow_unicode=True)[:60].strip("-") or "post"
    taken = set(Post.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    # Two at once may still choose the same one: a random tail instead of a number makes that a matter of theory.
    return base if base not in taken else f"{base}-{unsubscribe_token()[:8].lower().replace('_', 'x')}"


def post_publish(*, post_id: int) -> bool:
    """Publish a draft; call it in a transaction. False where it was published already.

    Raises Post.DoesNotExist.
    """
    post = Post.objects.select_for_update().get(pk=post_id)
    if post.status == Post.Status.PUBLISHED:
        return False
    post.status = Post.Status.PUBLISHED
    post.published_at = timezone.now()
    post.save(update_fields=["status", "published_at", "updated_at"])
    return True


def caches_invalidate() -> None:
    """Forget the rendered feed and sitemap."""
    cache.delete_many([FEED_KEY, SITEMAP_KEY])


def subscription_start(*, email: str) -> Subscriber:
    """Subscribe an address, anew where it had left."""
    with transaction.atomic():
        subscriber = Subscriber.objects.select_for_update().filter(email__iexact=email).first()
        if subscriber is None:
            # A lost race for one address ends in the same row.
            return Subscriber.objects.get_or_create(email=email.lower())[0]
        if not subscriber.active:
            subscriber.active = True
            subscriber.save(update_fields=["active"])
        return subscriber


def subscription_end(*, token: str) -> bool:
    """Unsubscribe who has this token. False where nobody has; ending twice is no error."""
    return bool(Subscriber.objects.filter(token=token).update(active=False))
