"""The plan of a mailing: cut the audience into chunks, keep some hundred of them called, and tell when all have ended.

Only the mailing's own run plans. It remembers in the same transaction how far it has planned and which chunks it has
called, so it may be killed at any time and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from django.conf import settings
from django.db.models import Count, F, Sum

from app.blog.models import Notification, NotificationChunk, Post, audience
from app.mail.bulk import BATCH_SIZES
from pressroom.database.key_ranges import key_ranges

ROUNDS = 8
"""Number of tries for a subscriber whose mail is put off. After that it counts as refused."""
CHUNK = 50
"""Subscribers in a chunk if mails go out one by one. A provider's chunk is one batch."""
OPEN = 200
"""Chunks of a mailing that are called at the same time at most, together with those that failed. The rest is not
planned yet, so another mailing waits behind these at most, and a cancellation has no more to cancel."""

Status = NotificationChunk.Status


class Next(Enum):
    """What a mailing waits for."""

    CHUNKS = "chunks"
    ROUND = "round"
    """The pause before mails that were put off are tried again."""
    NOTHING = "nothing"
    """Nobody is left."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a mailing is."""

    next: Next
    told: int
    total: int
    rounds: int
    failed: int
    """Chunks that failed. Only a new start calls them again."""
    chunks: int


def mailing_plan(*, post_id: int, task: str, call: Callable[[int, int], str]) -> Standing | None:
    """Call as many chunks as there is room for. Returns None if the post is gone or a draft. Call in a transaction.

    ``call(first, last)`` calls the task of a chunk and returns its Celery id. ``task`` is the caller's own.
    """
    # Planners of one post take turns.
    post = Post.objects.select_for_update(no_key=True).filter(pk=post_id, status=Post.Status.PUBLISHED).first()
    if post is None:
        return None
    readers = audience(post.author_id)
    notification = Notification.objects.filter(post=post).first() or Notification(post=post, total=0)
    if not notification.total:
        notification.total = readers.count()
    notification.task = task
    chunks = NotificationChunk.objects.filter(post=post)
    rows = chunks.values_list("status").annotate(Count("pk"), Sum("told"))
    by_status = {status: count for status, count, _ in rows}
    notification.told = sum(told for _, _, told in rows)
    # Failed ones take up room too, so that a fault of all chunks makes some hundred dead letters and not thousands.
    room = OPEN - by_status.get(Status.CALLED, 0) - by_status.get(Status.FAILED, 0)
    again = list(chunks.filter(status=Status.WAITING).order_by("first")[: max(room, 0)])
    for chunk in again:
        chunk.status, chunk.task = Status.CALLED, call(chunk.first, chunk.last)
    NotificationChunk.objects.bulk_update(again, ["status", "task"])
    ranges = key_ranges(
        readers, "subscriber_id", after=notification.position, size=chunk_size(), most=room - len(again)
    )  # fmt: skip
    NotificationChunk.objects.bulk_create(
        NotificationChunk(post=post, first=first, last=last, position=first - 1, task=call(first, last))
        for first, last, _ in ranges
    )
    if ranges:
        notification.position = ranges[-1].last
    called = by_status.get(Status.CALLED, 0) + len(again) + len(ranges)
    step = Next.CHUNKS if called else Next.NOTHING
    if not called and chunks.filter(status=Status.PUT_OFF).update(
        status=Status.WAITING, position=F("first") - 1, put_off=0
    ):
        step = Next.ROUND
        notification.rounds += 1
    notification.save()
    return Standing(
        step, notification.told, max(notification.told, notification.total), notification.rounds,
        by_status.get(Status.FAILED, 0), sum(by_status.values()) + len(ranges),
    )  # fmt: skip


def chunk_size() -> int:
    """Return how many subscribers a chunk has: a batch of the provider, or what takes a mail server seconds."""
    return BATCH_SIZES.get(settings.EMAIL_BACKEND, CHUNK)


def pause_before_round(rounds: int) -> int:
    """Return the seconds until mails that were put off are tried again: 1, 2, 4 … 60 minutes."""
    return min(60 << max(0, rounds - 1), 3600)
