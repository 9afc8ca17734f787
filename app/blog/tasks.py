"""Background tasks for posts. A task loads rows by id and calls a service."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from celery import chord, shared_task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from app.blog import notifications, search, services, statistics
from app.blog.mailing import chunk, outage, planner
from app.blog.models import Cover
from app.blog.subscriptions.services import confirmation_send, unconfirmed_cleanup
from app.mail.send import MailRefused
from app.mail.task_options import ONE_MAIL
from pressroom.context import current_run_id
from pressroom.enqueue.ownership import owned_by
from pressroom.execution.called_runs import cancel_called, start_at_once
from pressroom.execution.end_hooks import End, Outcome
from pressroom.progress import is_cancel_requested, report_progress, report_progress_of

logger = logging.getLogger(__name__)

TURN = 60.0
"""Seconds of work after which a long task moves to the end of its queue."""

SCHEDULABLE: dict[str, Any] = {"schedulable": True}


class MailingStopped(Exception):
    """A mailing cannot go on by itself. If it is run again, it continues."""


def notification_ended(end: End) -> None:
    """Record whether the mailing about a post ended, and why not, so that the author can see it. Cancel its chunks."""
    [post_id] = end.args
    if end.outcome is Outcome.SUCCEEDED:
        notifications.notification_end(post_id=post_id)
    elif end.outcome is Outcome.RESTARTED:
        notifications.notification_resume(post_id=post_id)
    elif end.outcome is not Outcome.DISCARDED:
        own = end.error if end.error_type == MailingStopped.__name__ else "It could not continue."
        reason = REASONS.get(end.outcome, own)
        cancel_called(notifications.notification_stop(post_id=post_id, reason=reason))
        notifications.chunks_stop(post_id=post_id, reason=reason)


def chunk_ended(end: End) -> None:
    """Record how a chunk of a mailing ended, and have the mailing go on."""
    post_id, first, _ = end.args
    if end.outcome is Outcome.RESTARTED:
        notifications.chunk_resume(post_id=post_id, first=first, task=end.celery_id)
    elif end.outcome is Outcome.SUCCEEDED:
        notifications.chunk_end(post_id=post_id, first=first, task=end.celery_id)
    elif end.outcome is not Outcome.DISCARDED:
        reason = REASONS.get(end.outcome, end.error or "It could not continue.")
        notifications.chunk_fail(post_id=post_id, first=first, task=end.celery_id, reason=reason)
    # After the commit: of two chunks that end at the same time, one sees that both have ended.
    transaction.on_commit(partial(_go_on, post_id), robust=True)


def _go_on(post_id: int) -> None:
    task = notifications.notification_waiting(post_id=post_id)
    if task:
        start_at_once(task)


def cover_ended(end: End) -> None:
    """Record why a post has no new cover, so that the author can see it."""
    [cover_id] = end.args
    if end.outcome is Outcome.RESTARTED:
        services.cover_resume(cover_id=cover_id)
    elif end.is_loss:
        reason = REASONS.get(end.outcome, "The image could not be resized.")
        services.cover_fail(cover_id=cover_id, reason=reason)


REASONS = {Outcome.CANCELLED: "It was cancelled.", Outcome.EXPIRED: "It did not start in time."}
OF_MAILINGS: dict[str, Any] = {"on_end": notification_ended}
OF_CHUNKS: dict[str, Any] = {"on_end": chunk_ended}
OF_COVERS: dict[str, Any] = {"on_end": cover_ended, "owner_may_cancel": True}


@shared_task(bind=True, queue="emails", atomic=True, **OF_MAILINGS)
def notify_subscribers(self: Any, post_id: int, began: str = "") -> int:
    """Mail a post to its author's subscribers. Returns the number of mails about the post.

    The task cuts the subscribers into chunks, has `notify_chunk` mail each of them, and waits until all have ended.
    Mails that a mail server puts off are tried again after 1, 2, 4 … 60 minutes. If it is cancelled, so are its
    chunks. If it fails and is run again, it continues where it stopped. It sets ``began`` itself.
    """
    if not began:
        notifications.notification_resume(post_id=post_id)
        began = timezone.now().isoformat()
    if reason := outage.lasting(datetime.fromisoformat(began)):
        raise MailingStopped(f"The mail server accepts no mail: {reason}")
    with owned_by(None):
        plan = planner.mailing_plan(
            post_id=post_id,
            task=self.request.id,
            call=lambda first, last: str(notify_chunk.delay(post_id, first, last).id),
        )
    if plan is None:
        logger.info("post %s does not exist or is a draft: no mail sent", post_id)
        return 0
    report_progress(plan.told, plan.total, "mails")
    go_on = self.si(post_id, began=began)
    if plan.next is planner.Next.CHUNKS:
        # A chunk that ends may wake it earlier.
        raise self.replace(go_on.set(countdown=_pause(began)))
    if plan.next is planner.Next.ROUND:
        raise self.replace(go_on.set(countdown=planner.pause_before_round(plan.rounds)))
    if plan.failed:
        raise MailingStopped(f"{plan.failed} of {plan.chunks} parts of the mailing failed.")
    return plan.told


def _pause(began: str) -> float:
    """Return the seconds until a mailing looks at its chunks again: a tenth of its age, from 1 to 10."""
    age = timezone.now() - datetime.fromisoformat(began)
    return min(max(age.total_seconds() / 10, 1.0), 10.0)


@shared_task(bind=True, queue="bulk", max_retries=20, **OF_CHUNKS)
def notify_chunk(self: Any, post_id: int, first: int, last: int) -> None:
    """Mail a post to the subscribers with ids from ``first`` to ``last``, as one part of a mailing.

    If the task is killed, fails or has used up its turn, it continues where it stopped.
    """
    go_on = self.si(post_id, first, last)
    try:
        left = chunk.chunk_send(post_id=post_id, first=first, task=self.request.id, seconds=TURN)
    except outage.Away as away:
        # It did not try, so it uses up no retry.
        raise self.replace(go_on.set(countdown=away.seconds)) from away
    except outage.NotNow as error:
        raise self.retry(exc=error, countdown=error.seconds) from error
    if left is chunk.Left.MORE:
        raise self.replace(go_on)
    if left is chunk.Left.STOPPED and is_cancel_requested():
        raise Ignore


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
def reindex_all(self: Any, after: int = 0, first_run: str = "") -> None:
    """Index every post with an id above ``after``: in chunks, of which some run in parallel, then the next ones.

    The task sets ``first_run`` itself: clients watch the run with which the work began.
    """
    if first_run:
        report_progress_of(uuid.UUID(first_run), after, max(after, search.highest_id()), "posts")
    ranges = search.posts_cut(after=after)
    if not ranges:
        search.posts_unindex(after=after)
        return
    last = ranges[-1].last
    ends = [after, *(posts.last for posts in ranges)]
    chunks = [reindex_posts.si(start, end) for start, end in pairwise(ends)]
    # Raises, except in an eager call.
    self.replace(chord(chunks, self.si(last, first_run or str(current_run_id() or ""))))


@shared_task(
    queue="default", autoretry_for=(search.SearchUnavailable,), max_retries=20, retry_backoff=True,
    retry_backoff_max=600,
)  # fmt: skip
def reindex_posts(after: int, last: int) -> None:
    """Index the posts with ids above ``after`` and up to ``last``, as a part of `reindex_all`."""
    search.posts_reindex(after=after, last=last)


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
