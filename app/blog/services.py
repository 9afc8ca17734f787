"""What is done with posts and subscriptions. Knows nothing of HTTP and nothing of Celery."""

from __future__ import annotations

import time
from collections.abc import Callable
from smtplib import SMTPRecipientsRefused
from typing import Any

from django.conf import settings
from django.contrib.postgres.search import SearchVector
from django.core.cache import cache
from django.core.mail import get_connection
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from app.blog.models import Delivery, Post, Subscriber, unsubscribe_token
from app.mail import compose

FEED_KEY, SITEMAP_KEY = "rss:feed", "sitemap:posts"
CHUNK = 100
"""Subscribers fetched, and mailed over one connection, at a time."""


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


def post_reindex(*, post_id: int) -> bool:
    """Bring the post's search vector up to date. False where there is no such post."""
    vector = SearchVector("title", weight="A", config="simple") + SearchVector("body", weight="B", config="simple")
    return bool(Post.objects.filter(pk=post_id).update(search=vector))


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


def _untold(post: Post) -> QuerySet[Subscriber]:
    told = Delivery.objects.filter(post=post, subscriber=OuterRef("pk"))
    return Subscriber.objects.filter(~Exists(told), active=True).order_by("pk")


def subscribers_notify(*, post: Post, seconds: float, progress: Callable[[int, int], None]) -> int:
    """Mail every active subscriber who was not told of the post yet, for ``seconds`` at most; constant memory.

    Calls ``progress(done, total)`` after each chunk. Returns how many are left for a next call. A subscriber is
    recorded once the mail server has taken the mail: killed in between, that one mail is sent again, with the same
    Message-ID. Raises OSError and smtplib.SMTPException when the server does not take a mail for a passing reason.
    """
    deadline = time.monotonic() + seconds
    left = _untold(post).count()
    done = post.deliveries.count()
    total = done + left
    last = 0
    while chunk := list(_untold(post).filter(pk__gt=last)[:CHUNK]):
        with get_connection() as connection:
            for subscriber in chunk:
                _tell(post, subscriber, connection)
        last = chunk[-1].pk
        done += len(chunk)
        progress(done, max(total, done))
        if time.monotonic() >= deadline:
            return _untold(post).count()
    return 0


def _tell(post: Post, subscriber: Subscriber, connection: Any) -> None:
    unsubscribe = settings.SITE_URL + reverse("unsubscribe", kwargs={"token": subscriber.token})
    mail = compose(
        template="blog/notification",
        context={"post": post, "url": settings.SITE_URL + post.get_absolute_url(), "unsubscribe": unsubscribe},
        to=subscriber.email,
        key=f"post-{post.pk}-{subscriber.pk}",
        # One click, no page: RFC 8058.
        headers={"List-Unsubscribe": f"<{unsubscribe}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        connection=connection,
    )
    refused = ""
    try:
        mail.send()
    except SMTPRecipientsRefused as error:
        refused = str(error)
    Delivery.objects.get_or_create(post=post, subscriber=subscriber, defaults={"refused": refused})
