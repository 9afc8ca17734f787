"""Telling subscribers of a post: any number of them, in constant memory, from where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum

from django.conf import settings
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from app.blog.models import Delivery, Notification, Post, Subscriber
from app.mail.bulk import Letter, NoneTaken, Outcome, Recipient, batch_size, send_letter

ROUNDS = 8
"""Tries at a subscriber whose mail is put off, before it counts as refused."""

FETCHED = 1000
"""Subscribers fetched at a time."""
EACH = 100
"""Subscribers told between two reports of progress, at least."""
PLACE = "-token-"
"""Where a subscriber's own token goes."""


class Left(Enum):
    """What is left to do."""

    NOTHING = "nothing"
    MORE = "more"
    """Call again: the time was up."""
    PUT_OFF = "put off"
    """Call again after a while: mail servers said "later" for some."""


def subscribers_notify(*, post: Post, seconds: float, progress: Callable[[int, int], None]) -> Left:
    """Mail every active subscriber who was not told of the post yet, for about ``seconds``.

    Calls ``progress(told, total)`` after each hundred or batch. A subscriber is recorded once the mail server has taken
    the mail, or refused the address: killed in between, the one batch in flight (one mail by SMTP) is sent again.
    Raises MailUnavailable when the server takes no mail now; the next call goes on where this one stopped,
    with NoneTaken after those who were not taken: they have a later round.
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
            if recorded is None:  # the post was deleted meanwhile
                return Left.NOTHING
            if recorded // EACH > told // EACH:
                progress(recorded, max(recorded, notification.total))
            told = recorded
            # In the middle of a batch too: one by one, a slow mail server may need minutes for it.
            if time.monotonic() >= deadline:
                break
    except NoneTaken:
        # In a later round those put off are among themselves: that none is taken says nothing of the server.
        if notification.rounds == 0:
            raise
    progress(told, max(told, notification.total))
    return _left(post)


def _begin(post: Post) -> Notification:
    total, told = Subscriber.objects.filter(active=True).count(), post.deliveries.count()
    return Notification.objects.update_or_create(post=post, defaults={"total": total, "told": told})[0]


def notification_end(*, post_id: int) -> None:
    """Everybody was told."""
    Notification.objects.filter(post=post_id).update(ended_at=timezone.now(), failure="")


def notification_stop(*, post_id: int, reason: str) -> None:
    """It ends before everybody was told; those who were are not told again when it goes on."""
    if Post.objects.select_for_update().filter(pk=post_id).exists():
        stopped = {"failure": reason, "ended_at": timezone.now()}
        Notification.objects.update_or_create(post_id=post_id, defaults=stopped, create_defaults=stopped | {"total": 0})


def notification_resume(*, post_id: int) -> bool:
    """It goes on. False where it has not stopped."""
    stopped = Notification.objects.filter(post=post_id).exclude(failure="")
    return bool(stopped.update(failure="", ended_at=None))


def pause_before_next_round(*, post: Post) -> int:
    """Seconds until those whose mail was put off are tried again: 1, 2, 4 … 60 minutes."""
    return min(60 << max(0, post.notification.rounds - 1), 3600)


def _batches(post: Post, position: int, deadline: float) -> Iterator[list[Recipient]]:
    """Active subscribers beyond ``position`` who were not told, until the deadline."""
    active = Subscriber.objects.filter(active=True).order_by("pk").values_list("pk", "email", "token")
    unsubscribe = settings.SITE_URL + reverse("unsubscribe", kwargs={"token": PLACE})
    size = batch_size()
    # Two plain questions at a time: as one anti-join, Postgres may read every delivery of the post each time.
    while people := list(active.filter(pk__gt=position)[:FETCHED]):
        ids = [pk for pk, _, _ in people]
        told = set(Delivery.objects.filter(post=post, subscriber__in=ids).values_list("subscriber", flat=True))
        untold = [
            Recipient(pk, email, f"post-{post.pk}-{pk}", unsubscribe.replace(PLACE, token))
            for pk, email, token in people
            if pk not in told
        ]
        for start in range(0, len(untold), size):
            yield untold[start : start + size]
        # Beyond those who had been told before, too.
        position = ids[-1]
        Notification.objects.filter(post=post).update(position=position)
        if time.monotonic() >= deadline:
            return


def _record(post_id: int, outcomes: list[Outcome], is_last_try: bool) -> int | None:
    """Write down what became of the next ones. Returns how many were told of the post so far, None where it is gone."""
    final = [outcome for outcome in outcomes if is_last_try or outcome.verdict != "put off"]
    put_off = [outcome.recipient.id for outcome in outcomes if not is_last_try and outcome.verdict == "put off"]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH said AS (SELECT * FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS said (id, reason)),
            -- Those who were deleted meanwhile are left out, and nobody is before this is committed.
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
                # Postgres takes no NUL, whatever a mail server says.
                "reasons": [outcome.reason.replace("\x00", "") for outcome in final],
                "put_off": min(put_off, default=None),
                "position": outcomes[-1].recipient.id,
            },
        )
        row = cursor.fetchone()
    return int(row[0]) if row else None


def _left(post: Post) -> Left:
    """What is left; where a round has ended with some put off, the position goes back to the first of them."""
    notification = Notification.objects.filter(post=post).first()
    if notification is None:
        return Left.NOTHING
    if Subscriber.objects.filter(active=True, pk__gt=notification.position).exists():
        return Left.MORE
    if notification.put_off_from is None:
        return Left.NOTHING
    notification.position = notification.put_off_from - 1
    notification.put_off_from = None
    notification.rounds += 1
    notification.save(update_fields=["position", "put_off_from", "rounds"])
    return Left.PUT_OFF
