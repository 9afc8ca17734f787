"""Whether the mail server accepts mail from mailings: one answer for all chunks of the site.

Each chunk asks before it sends. While the server accepts nothing, all of them wait, and one tries when the pause is
over. The answer is in Postgres, because it must survive a restart of Redis: docs/decisions/0024.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from app.blog.models import MailOutage
from app.mail.send import MailUnavailable
from pressroom.text import carried

FEW = 3
"""Attempts in a row without an accepted mail after which the others wait."""
FIRST_PAUSE = 2.0
"""Seconds. The pauses double from here: 2, 4, 8 … LONGEST_PAUSE."""
LONGEST_PAUSE = 600.0
"""Seconds."""
PROBE = 90.0
"""Seconds that a chunk has to find out whether the server is back. Then another one may try."""
SPREAD = 5.0
"""Seconds over which the chunks that waited come back."""
PATIENCE = timedelta(hours=1)
"""How long a mailing waits for the server before it stops."""
ONLY = 1
"""The key of the only row."""


class NotNow(MailUnavailable):
    """The server accepted nothing. Try again after ``seconds``."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds


class Away(NotNow):
    """The server accepts nothing, as other chunks have found. It was not asked again."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The permission to send mail."""

    at: datetime
    has_failed: bool
    """Whether the last attempts failed. The first mail that is accepted ends the outage."""


def enter() -> Admission:
    """Return the permission to send. Raises Away if the server is known to accept nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT clock_timestamp(), o.failures, extract(epoch FROM o.retry_at - clock_timestamp())::float8, o.reason
            FROM (SELECT) AS always LEFT JOIN blog_mailoutage o ON true
            """
        )
        at, failures, wait, reason = cursor.fetchone()
    if failures is None:
        return Admission(at, has_failed=False)
    if failures < FEW or (wait <= 0 and _may_probe()):
        return Admission(at, has_failed=True)
    raise Away(max(wait, 0.0) + random.uniform(0.1, SPREAD), reason)  # noqa: S311 - spreads load, guards nothing


def _may_probe() -> bool:
    """Return whether this chunk is the one that tries. The others wait meanwhile."""
    is_over = MailOutage.objects.filter(pk=ONLY, retry_at__lte=Now())
    return bool(is_over.update(retry_at=Now() + timedelta(seconds=PROBE)))


def note_failure(admission: Admission, reason: str) -> float:
    """Record that the server accepted nothing. Returns the seconds until this chunk may try again.

    The attempts that several slots had begun before a pause count as one, so that the pause grows once.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO blog_mailoutage AS o (id, failures, since, paused_at, retry_at, reason)
            VALUES (%(id)s, 1, clock_timestamp(), clock_timestamp(),
                clock_timestamp() + make_interval(secs => %(first)s), %(reason)s)
            ON CONFLICT (id) DO UPDATE SET failures = o.failures + 1, reason = excluded.reason,
                paused_at = clock_timestamp(), retry_at = clock_timestamp()
                    + make_interval(secs => least(
                        %(longest)s, %(first)s * 2 ^ least(greatest(o.failures - %(few)s + 1, 0), 30)))
            WHERE o.failures < %(few)s OR o.paused_at <= %(began)s
            """,
            {
                "id": ONLY, "reason": carried(reason), "few": FEW, "first": FIRST_PAUSE, "longest": LONGEST_PAUSE,
                "began": admission.at,
            },
        )  # fmt: skip
        cursor.execute(
            "SELECT extract(epoch FROM retry_at - clock_timestamp())::float8 FROM blog_mailoutage WHERE id = %s", [ONLY]
        )
        row = cursor.fetchone()
    wait = row[0] if row else 0.0
    return max(wait, 0.0) + random.uniform(0.1, 1.0)  # noqa: S311 - as above


def note_accepted() -> None:
    """Record that the server accepts mail."""
    MailOutage.objects.all().delete()


def try_now() -> None:
    """Let the next chunk try at once, because somebody resumed a mailing. A new hour of patience begins."""
    MailOutage.objects.update(retry_at=Now(), since=Now())


def lasting(began: datetime) -> str:
    """Return the reason of an outage that lasts longer than PATIENCE, else an empty text.

    The patience of a mailing begins with the mailing (``began``) or with the outage, whichever is later.
    """
    if timezone.now() - began < PATIENCE:
        return ""
    long = MailOutage.objects.filter(failures__gte=FEW, since__lt=Now() - PATIENCE)
    return long.values_list("reason", flat=True).first() or ""
