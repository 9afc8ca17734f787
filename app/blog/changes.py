"""What changes posts, and the tasks that follow from it, in one transaction: for the API and the admin alike."""

from __future__ import annotations

from typing import Any

from celery import signature
from celery.result import AsyncResult
from django.apps import apps
from django.conf import settings
from django.db import transaction

from app.blog import notifications, services
from app.blog.models import Post
from app.blog.tasks import invalidate_caches, notify_subscribers, reindex_post


def post_publish(*, post_id: int) -> list[AsyncResult[Any]]:
    """Publish a draft and start what follows; nothing where it was published already. Returns what was started.

    Raises Post.DoesNotExist.
    """
    with transaction.atomic():
        if not services.post_publish(post_id=post_id):
            return []
        started = [task.delay(post_id) for task in (notify_subscribers, reindex_post, invalidate_caches)]
        if settings.SLACK_WEBHOOK_URL and apps.is_installed("app.integrations"):
            post = Post.objects.only("title", "slug").get(pk=post_id)
            text = f"{post.title} {settings.SITE_URL}{post.get_absolute_url()}"
            # By name: this app does not know that one.
            started.append(signature("app.integrations.tasks.notify_slack", [text]).delay())
        return started


def post_change(*, post_id: int, fields: dict[str, Any]) -> Post:
    """Set these fields of a post, and no others, and have a published one found and rendered anew.

    Raises Post.DoesNotExist.
    """
    with transaction.atomic():
        post = services.post_change(post_id=post_id, fields=fields)
        if post.status == Post.Status.PUBLISHED:
            reindex_post.delay(post_id)
            invalidate_caches.delay(post_id)
        return post


def post_delete(*, post_id: int) -> None:
    """Delete a post, and have it found no more. One that is gone already is no error."""
    with transaction.atomic():
        if services.post_delete(post_id=post_id) == Post.Status.PUBLISHED:
            reindex_post.delay(post_id)
            invalidate_caches.delay(post_id)


def notification_restart(*, post_id: int) -> AsyncResult[Any] | None:
    """Go on telling subscribers of a post where it has stopped; None where it has not."""
    with transaction.atomic():
        if not notifications.notification_resume(post_id=post_id):
            return None
        started: AsyncResult[Any] = notify_subscribers.delay(post_id)
        return started
