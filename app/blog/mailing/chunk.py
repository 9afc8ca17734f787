"""Mail a post to one chunk of its readers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from enum import Enum

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.urls import reverse

from app.blog.mailing import outage
from app.blog.mailing.planner import ROUNDS, Status
from app.blog.models import Delivery, NotificationChunk, Post, audience
from app.blog.subscriptions.refusals import record_refusals
from app.mail.bulk import Letter, NoneTaken, Outcome, Recipient, batch_size, send_letter
from app.mail.send import MailUnavailable
from pressroom.text import carried

PLACE = "-token-"
"""Placeholder for a reader's own token."""
READ = ("subscriber_id", "subscriber__email", "token", "subscriber__refusals")
"""What is read of a subscription."""


class Left(Enum):
    """What remains of a chunk."""

    NOTHING = "nothing"
    MORE = "more"
    """The time is up. Call again."""
    STOPPED = "stopped"
    """Nobody else may be mailed: the mailing was cancelled, another task has the chunk, or the post is not public."""


def chunk_send(*, post_id: int, first: int, task: str, seconds: float) -> Left:
    """Mail the readers of the chunk who have not received the post yet, for about ``seconds``.

    ``task`` is the Celery id of the caller. A reader is recorded once the mail server has accepted the mail or refused
    the address. If the worker dies, only the batch in flight (one mail by SMTP) is sent again.

    Raises outage.NotNow if the server accepts no mail. The next call continues where this one stopped, but behind
    those who were put off: they get a later round. Raises outage.Away, without a look at the server, while the server
    is known to accept nothing.
    """
    chunks = NotificationChunk.objects.filter(post_id=post_id, first=first, task=task, status=Status.CALLED)
    chunk = chunks.select_related("post").annotate(rounds=F("post__notification__rounds")).first()
    if chunk is None or chunk.post.status != Post.Status.PUBLISHED:
        return Left.STOPPED
    admission = outage.enter()
    deadline = time.monotonic() + seconds
    try:
        refusing: set[int] = set()
        with closing(send_letter(_letter(chunk.post), _batches(chunk, refusing))) as sent:
            for outcomes in sent:
                if not _record(chunk, outcomes, refusing, is_last_try=chunk.rounds >= ROUNDS):
                    return Left.STOPPED
                if admission.has_failed and any(outcome.verdict == "taken" for outcome in outcomes):
                    outage.note_accepted()
                    admission = outage.Admission(admission.at, has_failed=False)
                # Check within a batch too: one mail at a time, a slow mail server may need minutes for a batch.
                if time.monotonic() >= deadline:
                    return Left.MORE
    except NoneTaken as error:
        # A later round holds only mails that were put off. That none is accepted says nothing about the server.
        if chunk.rounds:
            return Left.MORE
        raise outage.NotNow(outage.note_failure(admission, str(error)), str(error)) from error
    except MailUnavailable as error:
        raise outage.NotNow(outage.note_failure(admission, str(error)), str(error)) from error
    chunks.filter(position__lt=chunk.last).update(position=chunk.last)
    return Left.NOTHING


def _letter(post: Post) -> Letter:
    return Letter.render("blog/notification", {"post": post, "url": settings.SITE_URL + post.get_absolute_url()})


def _batches(chunk: NotificationChunk, refusing: set[int]) -> Iterator[list[Recipient]]:
    """Yield batches of readers beyond the chunk's position who have not received the post.

    Each batch is read when it is needed, so that nobody is mailed who has unsubscribed before. Adds the ids of those
    whose address refused the last post to ``refusing``.
    """
    readers = audience(chunk.post.author_id).filter(subscriber_id__lte=chunk.last).order_by("subscriber_id")
    unsubscribe = settings.SITE_URL + reverse("unsubscribe", kwargs={"token": PLACE})
    before, after = unsubscribe.split(PLACE)
    size, position = batch_size(), chunk.position
    # Two plain queries at a time. For one anti-join, Postgres may read every delivery of the post each time.
    while people := list(readers.filter(subscriber_id__gt=position).values_list(*READ)[:size]):
        known = Delivery.objects.filter(
            post=chunk.post_id, subscriber_id__gte=people[0][0], subscriber_id__lte=people[-1][0]
        )
        told = set(known.values_list("subscriber_id", flat=True))
        untold = [
            Recipient(pk, email, f"post-{chunk.post_id}-{pk}", f"{before}{token}{after}")
            for pk, email, token, _ in people
            if pk not in told
        ]
        refusing.update(pk for pk, _, _, refusals in people if refusals)
        if untold:
            yield untold
        position = people[-1][0]


def _record(chunk: NotificationChunk, outcomes: list[Outcome], refusing: set[int], is_last_try: bool) -> bool:
    """Record the outcomes of the next mails. Returns whether the chunk may go on."""
    final = [outcome for outcome in outcomes if is_last_try or outcome.verdict != "put off"]
    refused = {outcome.recipient.id: outcome.reason for outcome in final if outcome.verdict == "refused"}
    accepted = {outcome.recipient.id for outcome in final if outcome.verdict == "taken"} & refusing
    if not refused and not accepted:
        # One statement needs no transaction.
        return _record_deliveries(chunk, outcomes, final, [])[0]
    with transaction.atomic():
        may_go_on, recorded = _record_deliveries(chunk, outcomes, final, [*refused, *accepted])
        record_refusals(
            refused={pk: reason for pk, reason in refused.items() if pk in recorded}, accepted=accepted & recorded
        )
    return may_go_on


def _record_deliveries(
    chunk: NotificationChunk, outcomes: list[Outcome], final: list[Outcome], asked: list[int]
) -> tuple[bool, set[int]]:
    """Record the final ones of the outcomes. Returns whether the chunk may go on, and which of ``asked`` are new."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH said AS (SELECT * FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS said (id, reason)),
            -- Leaves out subscribers who have been deleted, and locks the others against deletion until the commit. The
            -- post comes first, as in the erasure of an account, so that they cannot deadlock.
            there AS (
                SELECT s.id, said.reason FROM said JOIN blog_subscriber s USING (id), blog_post p
                WHERE p.id = %(post)s FOR KEY SHARE OF p, s
            ),
            delivered AS (
                INSERT INTO blog_delivery (post_id, subscriber_id, refused, at)
                SELECT %(post)s, id, reason, clock_timestamp() FROM there
                ON CONFLICT (post_id, subscriber_id) DO NOTHING RETURNING subscriber_id
            ),
            counted AS (
                UPDATE blog_notificationchunk SET told = told + (SELECT count(*) FROM delivered),
                    position = greatest(position, %(position)s), put_off = put_off + %(put_off)s
                WHERE post_id = %(post)s AND first = %(first)s RETURNING task, status
            )
            SELECT
                EXISTS (
                    SELECT FROM counted c, blog_post p WHERE c.task = %(task)s AND c.status = 'called'
                        AND p.id = %(post)s AND p.status = 'published'
                ),
                ARRAY(SELECT subscriber_id FROM delivered WHERE subscriber_id = ANY(%(asked)s::bigint[]))
            """,
            {
                "post": chunk.post_id,
                "first": chunk.first,
                "task": chunk.task,
                "ids": [outcome.recipient.id for outcome in final],
                "reasons": [carried(outcome.reason) for outcome in final],
                "put_off": len(outcomes) - len(final),
                "position": outcomes[-1].recipient.id,
                "asked": asked,
            },
        )
        may_go_on, recorded = cursor.fetchone()
    return may_go_on, set(recorded)
