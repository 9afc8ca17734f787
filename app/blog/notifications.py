"""The mailing about a post: how it and its chunks begin, stop and end. `app.blog.mailing` plans it and sends mails."""

from __future__ import annotations

from django.db.models import Case, F, Sum, Value, When
from django.utils import timezone

from app.blog.mailing import outage
from app.blog.models import Notification, NotificationChunk, Post, audience

WAKE_EVERY = 25
"""The mailing's own run plans more, and reports progress, each time that so many chunks have ended."""

Status = NotificationChunk.Status


def notification_end(*, post_id: int) -> None:
    """Mark the mailing as done."""
    Notification.objects.filter(post=post_id).update(ended_at=timezone.now(), failure="", told=_told(post_id))


def notification_stop(*, post_id: int, reason: str) -> list[str]:
    """Mark the mailing as stopped. If it is resumed, nobody gets the mail twice.

    Returns the Celery ids of its chunks' tasks. Cancel them, then call `chunks_stop`.
    """
    if not Post.objects.select_for_update().filter(pk=post_id).exists():
        return []
    stopped = {"failure": reason, "ended_at": timezone.now(), "told": _told(post_id)}
    Notification.objects.update_or_create(post_id=post_id, defaults=stopped, create_defaults=stopped | {"total": 0})
    return list(NotificationChunk.objects.filter(post=post_id, status=Status.CALLED).values_list("task", flat=True))


def chunks_stop(*, post_id: int, reason: str) -> None:
    """Have the chunks that still run stop after the mail or batch in flight."""
    # After their runs were cancelled: the end of a chunk locks its run and its row in this order, too.
    NotificationChunk.objects.filter(post=post_id, status=Status.CALLED).update(status=Status.FAILED, failure=reason)


def notification_resume(*, post_id: int) -> bool:
    """Mark a stopped mailing as running, and its failed chunks as waiting. Returns False if it has not stopped."""
    stopped = Notification.objects.filter(post=post_id).exclude(failure="")
    if not stopped.update(failure="", ended_at=None):
        return False
    NotificationChunk.objects.filter(post=post_id, status=Status.FAILED).update(status=Status.WAITING, failure="")
    outage.try_now()
    return True


def chunk_end(*, post_id: int, first: int, task: str) -> None:
    """Record that the task of a chunk has ended."""
    NotificationChunk.objects.filter(post=post_id, first=first, task=task, status=Status.CALLED).update(
        status=Case(
            When(position__lt=F("last"), then=Value(Status.FAILED)),
            When(put_off__gt=0, then=Value(Status.PUT_OFF)),
            default=Value(Status.DONE),
        )
    )


def chunk_fail(*, post_id: int, first: int, task: str, reason: str) -> None:
    """Record that a chunk was not mailed completely. The other chunks go on."""
    chunks = NotificationChunk.objects.filter(post=post_id, first=first, task=task, status=Status.CALLED)
    chunks.update(status=Status.FAILED, failure=reason)


def chunk_resume(*, post_id: int, first: int, task: str) -> None:
    """Record that the task of a failed chunk runs again."""
    chunks = NotificationChunk.objects.filter(post=post_id, first=first, task=task, status=Status.FAILED)
    chunks.update(status=Status.CALLED, failure="")


def notification_waiting(*, post_id: int) -> str:
    """Return the Celery id of the mailing's own run if it has something to do, now that a chunk has ended. Else "".

    Ends a mailing that had stopped, if its last failed chunk has been run again.
    """
    notification = Notification.objects.filter(post=post_id).select_related("post").first()
    if notification is None:
        return ""
    chunks = NotificationChunk.objects.filter(post=post_id)
    called = chunks.filter(status=Status.CALLED).count()
    if not notification.failure:
        return "" if called % WAKE_EVERY else notification.task
    is_planned = not audience(notification.post.author_id).filter(subscriber_id__gt=notification.position).exists()
    if not called and is_planned and not chunks.exclude(status=Status.DONE).exists():
        notification_end(post_id=post_id)
    return ""


def _told(post_id: int) -> int:
    told: int | None = NotificationChunk.objects.filter(post=post_id).aggregate(Sum("told"))["told__sum"]
    return told or 0
