"""Background tasks for posts. A task loads rows by id and calls a service."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.utils.dateparse import parse_datetime

from app.blog import notifications, search, services, statistics
from app.blog.models import Cover, Post
from app.blog.subscriptions import confirmation_send, unconfirmed_cleanup
from app.mail.send import MailRefused, MailUnavailable
from app.mail.task_options import ONE_MAIL
from pressroom.execution.end_hooks import End, Outcome
from pressroom.progress import report_progress

logger = logging.getLogger(__name__)

TURN = 60.0
"""Seconds of work after which a long task moves to the end of its queue."""

SCHEDULABLE: dict[str, Any] = {"schedulable": True}


def notification_ended(end: End) -> None:
    """Record whether the mailing about a post ended, and why not, so that the author can see it."""
    [post_id] = end.args
    if end.outcome is Outcome.SUCCEEDED:
        notifications.notification_end(post_id=post_id)
    elif end.outcome is Outcome.RESTARTED:
        notifications.notification_resume(post_id=post_id)
    else:
        notifications.notification_stop(post_id=post_id, reason=REASONS.get(end.outcome, "It could not continue."))


def cover_ended(end: End) -> None:
    """Record why a post has no new cover, so that the author can see it."""
    [cover_id] = end.args
    if end.outcome is Outcome.RESTARTED:
        services.cover_resume(cover_id=cover_id)
    elif end.is_loss:
        reason = REASONS.get(end.outcome, "The image could not be resized.")
        services.cover_fail(cover_id=cover_id, reason=reason)


REASONS = {Outcome.CANCELLED: "It was cancelled.", Outcome.EXPIRED: "It did not start in time."}
OF_NOTIFICATIONS: dict[str, Any] = {"on_end": notification_ended}
OF_COVERS: dict[str, Any] = {"on_end": cover_ended, "owner_may_cancel": True}


@shared_task(
    bind=True, queue="emails", autoretry_for=(MailUnavailable,), max_retries=20, retry_backoff=True,
    retry_backoff_max=600, **OF_NOTIFICATIONS,
)  # fmt: skip
def notify_subscribers(self: Any, post_id: int) -> int:
    """Mail a post to every subscriber. Returns the number of mails about the post so far.

    If the task is killed, fails or has used up its turn, it continues where it stopped. If the mail server accepts no
    mail, the task retries for about an hour. Mails that a mail server puts off are tried again after 1, 2, 4 … 60
    minutes.
    """
    post = Post.objects.filter(pk=post_id, status=Post.Status.PUBLISHED).first()
    if post is None:
        logger.info("post %s does not exist or is a draft: no mail sent", post_id)
        return 0
    left = notifications.subscribers_notify(
        post=post, seconds=TURN, progress=lambda done, of: report_progress(done, of, "mails")
    )
    # Queue the same run again, with its progress, so that a long list does not block the queue.
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
    """Update the search index for a post. Returns whether the post is in it: drafts and deleted posts are not."""
    return search.post_reindex(post_id=post_id)


@shared_task(
    bind=True, queue="default", autoretry_for=(search.SearchUnavailable,), max_retries=20, retry_backoff=True,
    retry_backoff_max=600, **SCHEDULABLE,
)  # fmt: skip
def reindex_all(self: Any, after: int = 0) -> None:
    """Index every post with an id above ``after``, in batches. At the end of its turn, the task queues the rest."""
    position = search.posts_reindex(
        after=after, seconds=TURN, progress=lambda done, of: report_progress(done, of, "posts")
    )
    if position is not None:
        raise self.replace(self.si(position))


@shared_task(queue="default", durable=False, ignore_result=True)  # type: ignore[call-overload, untyped-decorator]
def record_view(post_id: int, at: str) -> None:
    """Record a view of a published post at an ISO 8601 time. Best effort, because statistics must not delay readers."""
    moment = parse_datetime(at)
    if moment is None:
        raise ValueError(f"{at!r} is not a time in ISO 8601")
    statistics.view_record(post_id=post_id, at=moment)


@shared_task(queue="default")
def roll_up_views() -> int:
    """Add the recorded views to the daily counts. Returns the number of views."""
    return statistics.views_roll_up()


@shared_task(queue="default")
def invalidate_caches(post_id: int) -> None:
    """Remove cached pages that the post changes. If the cache is down, its entries expire by their own time-out."""
    services.caches_invalidate()


@shared_task(
    queue="default",
    autoretry_for=(Exception,),  # A storage may raise anything.
    dont_autoretry_for=(SoftTimeLimitExceeded,),
    retry_backoff=True,
    max_retries=5,
    **OF_COVERS,
)
def resize_cover(cover_id: int) -> bool:
    """Create the sizes of a cover. Returns whether the cover still exists."""
    from app.blog import covers  # loads Pillow, which few processes need

    cover = Cover.objects.filter(pk=cover_id).first()
    return cover is not None and covers.cover_resize(cover=cover)


@shared_task(**ONE_MAIL)  # type: ignore[untyped-decorator]  # by the mapping
def send_confirmation_email(self: Any, subscription_id: int, asked_at: str) -> bool:
    """Ask an address to confirm a subscription, as of an ISO 8601 time. Returns whether a mail was sent.

    Every request to subscribe calls this, so that its answer does not tell whether the address is known. The task
    finds out whether there is something to confirm.
    """
    moment = parse_datetime(asked_at)
    if moment is None:
        raise ValueError(f"{asked_at!r} is not a time in ISO 8601")
    try:
        return confirmation_send(subscription_id=subscription_id, asked_at=moment)
    except MailRefused as error:
        logger.warning("the mail to confirm subscription %s was refused: %s", subscription_id, error)
        return False


@shared_task(bind=True, queue="default", **SCHEDULABLE)
def cleanup_unconfirmed(self: Any, after: int = 0) -> None:
    """Delete subscriptions that nobody confirmed, and addresses above the id ``after`` without any, after 30 days.

    At the end of its turn, the task queues the rest.
    """
    position = unconfirmed_cleanup(after=after, seconds=TURN)
    if position is not None:
        raise self.replace(self.si(position))
