"""Slow work for posts. A task fetches by id and calls a service."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.utils.dateparse import parse_datetime

from app.blog import notifications, search, services, statistics
from app.blog.models import Cover, Post
from app.mail.send import MailUnavailable
from pressroom.execution.end_hooks import End, Outcome
from pressroom.progress import report_progress

logger = logging.getLogger(__name__)

TURN = 60.0
"""Seconds of work after which a long task goes to the end of its queue."""

SCHEDULABLE: dict[str, Any] = {"schedulable": True}


def notification_ended(end: End) -> None:
    """The author reads whether subscribers were told of a post, and why not."""
    [post_id] = end.args
    if end.outcome is Outcome.SUCCEEDED:
        notifications.notification_end(post_id=post_id)
    elif end.outcome is Outcome.RESTARTED:
        notifications.notification_resume(post_id=post_id)
    else:
        notifications.notification_stop(post_id=post_id, reason=REASONS.get(end.outcome, "It could not go on."))


def cover_ended(end: End) -> None:
    """The author reads why a post has no new cover."""
    [cover_id] = end.args
    if end.outcome is Outcome.RESTARTED:
        services.cover_resume(cover_id=cover_id)
    elif end.is_loss:
        reason = REASONS.get(end.outcome, "Its sizes could not be made.")
        services.cover_fail(cover_id=cover_id, reason=reason)


REASONS = {Outcome.CANCELLED: "It was cancelled.", Outcome.EXPIRED: "It was not begun in time."}
OF_NOTIFICATIONS: dict[str, Any] = {"on_end": notification_ended}
OF_COVERS: dict[str, Any] = {"on_end": cover_ended, "owner_may_cancel": True}


@shared_task(
    bind=True, queue="emails", autoretry_for=(MailUnavailable,), max_retries=20, retry_backoff=True,
    retry_backoff_max=600, **OF_NOTIFICATIONS,
)  # fmt: skip
def notify_subscribers(self: Any, post_id: int) -> int:
    """Tell every subscriber of a post. Killed, failed or out of turn, it goes on where it stopped.

    Returns how many have been told of the post. While the mail server takes none it is tried for about an hour; those
    for whom a mail server says "later" are tried again after 1, 2, 4 … 60 minutes.
    """
    post = Post.objects.filter(pk=post_id, status=Post.Status.PUBLISHED).first()
    if post is None:
        logger.info("post %s is gone or a draft: nobody is told", post_id)
        return 0
    left = notifications.subscribers_notify(
        post=post, seconds=TURN, progress=lambda done, of: report_progress(done, of, "mails")
    )
    # The same run with its progress, queued anew: a long list does not hold the queue up.
    if left is notifications.Left.MORE:
        raise self.replace(self.si(post_id))
    if left is notifications.Left.PUT_OFF:
        raise self.replace(self.si(post_id).set(countdown=notifications.pause_before_next_round(post=post)))
    return post.deliveries.count()


@shared_task(
    queue="default", autoretry_for=(search.SearchUnavailable,), max_retries=20, retry_backoff=True,
    retry_backoff_max=600,
)  # fmt: skip
def reindex_post(post_id: int) -> bool:
    """Bring the post's search index up to date. Returns whether it is to be found: not a draft or a deleted one."""
    return search.post_reindex(post_id=post_id)


@shared_task(
    bind=True, queue="default", autoretry_for=(search.SearchUnavailable,), max_retries=20, retry_backoff=True,
    retry_backoff_max=600, **SCHEDULABLE,
)  # fmt: skip
def reindex_all(self: Any, after: int = 0) -> None:
    """Index every post with an id above ``after``, in batches; out of turn it goes on where it stopped."""
    position = search.posts_reindex(
        after=after, seconds=TURN, progress=lambda done, of: report_progress(done, of, "posts")
    )
    if position is not None:
        raise self.replace(self.si(position))


@shared_task(queue="default", durable=False, ignore_result=True)  # type: ignore[call-overload, untyped-decorator]
def record_view(post_id: int, at: str) -> None:
    """Count one reading of a published post at a time in ISO 8601. Best effort: statistics hold no reader up."""
    moment = parse_datetime(at)
    if moment is None:
        raise ValueError(f"{at!r} is not a time in ISO 8601")
    statistics.view_record(post_id=post_id, at=moment)


@shared_task(queue="default")
def roll_up_views() -> int:
    """Move the views recorded into the daily counts. Returns how many."""
    return statistics.views_roll_up()


@shared_task(queue="default")
def invalidate_caches(post_id: int) -> None:
    """Forget what was rendered without the post. The cache fails open: what stays ends by its own time."""
    services.caches_invalidate()


@shared_task(
    queue="default",
    autoretry_for=(Exception,),  # whatever the storage raises
    dont_autoretry_for=(SoftTimeLimitExceeded,),
    retry_backoff=True,
    max_retries=5,
    **OF_COVERS,
)
def resize_cover(cover_id: int) -> bool:
    """Make the sizes of a cover. Returns whether there is such a cover."""
    from app.blog import covers  # loads Pillow, which few processes need

    cover = Cover.objects.filter(pk=cover_id).first()
    return cover is not None and covers.cover_resize(cover=cover)
