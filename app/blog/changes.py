"""Changes with the tasks that follow from them, in one transaction. The API, the admin and the pages share them."""

from __future__ import annotations

from typing import Any

from celery import signature
from celery.result import AsyncResult
from django.apps import apps
from django.conf import settings
from django.db import transaction

from app.blog import notifications, services
from app.blog.models import Post
from app.blog.subscriptions.services import subscription_ask
from app.blog.tasks import invalidate_caches, notify_subscribers, reindex_post, send_confirmation_email


def post_publish(*, post_id: int) -> list[AsyncResult[Any]]:
    """Publish a draft and start the tasks that follow. Returns what was started, or [] if it was published already.

    Raises Post.DoesNotExist.
    """
    with transaction.atomic():
        if not services.post_publish(post_id=post_id):
            return []
        started = [task.delay(post_id) for task in (notify_subscribers, reindex_post, invalidate_caches)]
        if settings.SLACK_WEBHOOK_URL and apps.is_installed("app.integrations"):
            post = Post.objects.only("title", "slug").get(pk=post_id)
            text = f"{post.title} {settings.SITE_URL}{post.get_absolute_url()}"
            # By name, because this app must not import that one.
            started.append(signature("app.integrations.tasks.notify_slack", [text]).delay())
        return started


def post_change(*, post_id: int, fields: dict[str, Any]) -> Post:
    """Set the given fields of a post, and update search index and caches if it is published.

    Raises Post.DoesNotExist.
    """
    with transaction.atomic():
        post = services.post_change(post_id=post_id, fields=fields)
        if post.status == Post.Status.PUBLISHED:
            reindex_post.delay(post_id)
            invalidate_caches.delay(post_id)
        return post


def post_delete(*, post_id: int) -> None:
    """Delete a post and remove it from search index and caches. Does nothing if it does not exist."""
    with transaction.atomic():
        if services.post_delete(post_id=post_id) == Post.Status.PUBLISHED:
            reindex_post.delay(post_id)
            invalidate_caches.delay(post_id)


def notification_restart(*, post_id: int) -> AsyncResult[Any] | None:
    """Resume the mailing about a post. Returns the started task, or None if the mailing has not stopped."""
    with transaction.atomic():
        if not notifications.notification_resume(post_id=post_id):
            return None
        started: AsyncResult[Any] = notify_subscribers.delay(post_id)
        return started


def subscribe(*, author: Any, email: str) -> None:
    """Ask an address by mail to confirm a subscription to the author. Raises ValidationError."""
    with transaction.atomic():
        subscription_id, asked_at = subscription_ask(author=author, email=email)
        send_confirmation_email.delay(subscription_id, asked_at.isoformat())
