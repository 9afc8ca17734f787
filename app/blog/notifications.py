"""Mailings to an author's subscribers about a post: any number of recipients, in constant memory, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum

from django.conf import settings
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from app.blog.models import Delivery, Notification, Post, audience
from app.mail.bulk import Letter, NoneTaken, Outcome, Recipient, batch_size, send_letter

ROUNDS = 8
"""Number of tries for a subscriber whose mail is put off. After that it counts as refused."""

FETCHED = 1000
"""Subscribers fetched per query."""
EACH = 100
"""Minimum number of subscribers mailed between two reports of progress."""
PLACE = "-token-"
"""Placeholder for a subscriber's own token."""


class Left(Enum):
    """What remains of a mailing."""

    NOTHING = "nothing"
    MORE = "more"
    """The time is up. Call again."""
    PUT_OFF = "put off"
    """Mail servers put off some mails. Call again later."""


def subscribers_notify(*, post: Post, seconds: float, progress: Callable[[int, int], None]) -> Left:
    """Mail every subscriber of the author who has not received the post yet, for about ``seconds``.

    Calls ``progress(told, total)`` after each hundred or batch. A subscriber is recorded once the mail server has
    accepted the mail or refused the address. If the worker dies, only the batch in flight (one mail by SMTP) is sent
    again.

    Raises MailUnavailable if the server accepts no mail now. The next call continues where this one stopped. After
    NoneTaken it continues behind the subscribers who were put off, who get a later round.
    """
    notification = Notification.objects.filter(post=post).first()
    if notification is None or not notification.total:
        notification = _begin(post)
    url = settings.SITE_URL + post.get_absolute_url()
    letter = Letter.render("blog/notification", {"post": post, "url": url})
    deadline = time.monotonic() + seconds
    told = notification.told
    try:
        for outcomes in send_letter(letter, _batches(post, notification.position, deadline)):
            recorded = _record(post.pk, outcomes, is_last_try=notification.rounds >= ROUNDS)
            if recorded is None:  # The post has been deleted.
                return Left.NOTHING
            if recorded // EACH > told // EACH:
                progress(recorded, max(recorded, notification.total))
            told = recorded
            # Check within a batch too: one mail at a time, a slow mail server may need minutes for a batch.
            if time.monotonic() >= deadline:
                break
    except NoneTaken:
        # A later round holds only mails that were put off. That none is accepted says nothing about the server.
        if notification.rounds == 0:
            raise
    progress(told, max(told, notification.total))
    return _left(post)


def _begin(post: Post) -> Notification:
    total, told = audience(post.author_id).count(), post.deliveries.count()
    return Notification.objects.update_or_create(post=post, defaults={"total": total, "told": told})[0]


def notification_end(*, post_id: int) -> None:
    """Mark the mailing as done."""
    Notification.objects.filter(post=post_id).update(ended_at=timezone.now(), failure="")


def notification_stop(*, post_id: int, reason: str) -> None:
    """Mark the mailing as stopped. If it is resumed, nobody gets the mail twice."""
    if Post.objects.select_for_update().filter(pk=post_id).exists():
        stopped = {"failure": reason, "ended_at": timezone.now()}
        Notification.objects.update_or_create(post_id=post_id, defaults=stopped, create_defaults=stopped | {"total": 0})


def notification_resume(*, post_id: int) -> bool:
    """Mark a stopped mailing as running. Returns False if it has not stopped."""
    stopped = Notification.objects.filter(post=post_id).exclude(failure="")
    return bool(stopped.update(failure="", ended_at=None))


def pause_before_next_round(*, post: Post) -> int:
    """Return the seconds until mails that were put off are tried again: 1, 2, 4 … 60 minutes."""
    return min(60 << max(0, post.notification.rounds - 1), 3600)


def _batches(post: Post, position: int, deadline: float) -> Iterator[list[Recipient]]:
    """Yield batches of subscribers beyond ``position`` who have not received the post, until the deadline."""
    readers = audience(post.author_id).order_by("subscriber_id")
    active = readers.values_list("subscriber_id", "subscriber__email", "token")
    unsubscribe = settings.SITE_URL + reverse("unsubscribe", kwargs={"token": PLACE})
    size = batch_size()
    # Two plain queries at a time. For one anti-join, Postgres may read every delivery of the post each time.
    while people := list(active.filter(subscriber_id__gt=position)[:FETCHED]):
        ids = [pk for pk, _, _ in people]
        told = set(Delivery.objects.filter(post=post, subscriber__in=ids).values_list("subscriber", flat=True))
        untold = [
            Recipient(pk, email, f"post-{post.pk}-{pk}", unsubscribe.replace(PLACE, token))
            for pk, email, token in people
            if pk not in told
        ]
        for start in range(0, len(untold), size):
            yield untold[start : start + size]
        # Also moves past subscribers who had already received the post.
        position = ids[-1]
        Notification.objects.filter(post=post).update(position=position)
        if time.monotonic() >= deadline:
            return


def _record(post_id: int, outcomes: list[Outcome], is_last_try: bool) -> int | None:
    """Record the outcomes of the next mails. Returns the number of deliveries so far, or None if the post is gone."""
    final = [outcome for outcome in outcomes if is_last_try or outcome.verdict != "put off"]
    put_off = [outcome.recipient.id for outcome in outcomes if not is_last_try and outcome.verdict == "put off"]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH said AS (SELECT * FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS said (id, reason)),
            -- Leaves out subscribers who have been deleted, and locks the others against deletion until the commit.
            there AS (
                SELECT s.id, said.reason FROM said JOIN blog_subscriber s USING (id), blog_post p
                WHERE p.id = %(post)s FOR KEY SHARE OF s, p
            ),
            delivered AS (
                INSERT INTO blog_delivery (post_id, subscriber_id, refused, at)
                SELECT %(post)s, id, reason, clock_timestamp() FROM there
                ON CONFLICT (post_id, subscriber_id) DO NOTHING RETURNING id
            )
            UPDATE blog_notification SET
                told = told + (SELECT count(*) FROM delivered),
                position = %(position)s,
                put_off_from = least(put_off_from, %(put_off)s::bigint)
            WHERE post_id = %(post)s RETURNING told
            """,
            {
                "post": post_id,
                "ids": [outcome.recipient.id for outcome in final],
                # Postgres cannot store NUL, which a mail server may send.
                "reasons": [outcome.reason.replace("\x00", "") for outcome in final],
                "put_off": min(put_off, default=None),
                "position": outcomes[-1].recipient.id,
            },
        )
        row = cursor.fetchone()
    return int(row[0]) if row else None


def _left(post: Post) -> Left:
    """Return what remains. At the end of a round with mails put off, move the position back to the first of them."""
    notification = Notification.objects.filter(post=post).first()
    if notification is None:
        return Left.NOTHING
    if audience(post.author_id).filter(subscriber_id__gt=notification.position).exists():
        return Left.MORE
    if notification.put_off_from is None:
        return Left.NOTHING
    notification.position = notification.put_off_from - 1
    notification.put_off_from = None
    notification.rounds += 1
    notification.save(update_fields=["position", "put_off_from", "rounds"])
    return Left.PUT_OFF
