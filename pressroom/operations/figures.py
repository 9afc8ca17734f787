"""The statements behind the pages, besides those of the exporter.

The cost of each statement does not depend on the number of ended runs.
"""

from __future__ import annotations

import dataclasses
import datetime

from django.db import connection

from pressroom.conf import declared_queues
from pressroom.monitoring.queue_stats import CAP

SAMPLE = 500
"""How many runs of each minute, the first that ended, the waits are taken from."""
MINUTES = 60


@dataclasses.dataclass(frozen=True)
class DeadGroup:
    """The dead letters of one task with one type of error."""

    queue: str
    name: str
    error_type: str
    count: int


def dead_groups() -> list[DeadGroup]:
    """Return the newest CAP dead letters, grouped by task and error, the largest group first."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT queue, name, error_type, count(*) FROM (
                SELECT queue, name, error_type FROM taskruns_endedrun WHERE status = 'dead'
                ORDER BY id DESC LIMIT {CAP}
            ) dead GROUP BY queue, name, error_type ORDER BY count(*) DESC, name, error_type
            """
        )
        return [DeadGroup(*row) for row in cursor.fetchall()]


@dataclasses.dataclass(frozen=True)
class Minute:
    """The runs that ended in one minute.

    Waits are in seconds, from the time a run was due to the start of its last attempt.
    """

    at: datetime.datetime
    succeeded: int
    dead: int
    wait_p50: float | None
    wait_p95: float | None


def last_hour() -> list[Minute]:
    """Return the last 60 minutes, oldest first. The last minute is not over yet."""
    # The index begins with the queue, so each statement asks for each queue by itself.
    queues = list(declared_queues())
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('minute', now())")
        now: datetime.datetime = cursor.fetchall()[0][0]
        minutes = [now - datetime.timedelta(minutes=minute) for minute in reversed(range(MINUTES))]
        cursor.execute(
            """
            SELECT date_bin('1 minute', finished_at, %s), count(*) FILTER (WHERE status = 'succeeded'),
                count(*) FILTER (WHERE status = 'dead')
            FROM unnest(%s::text[]) q (name) JOIN taskruns_endedrun ON queue = q.name WHERE finished_at >= %s
            GROUP BY 1
            """,
            [minutes[0], queues, minutes[0]],
        )
        counts = {at: (succeeded, dead) for at, succeeded, dead in cursor.fetchall()}
        cursor.execute(
            f"""
            SELECT m.at, w.waits[1], w.waits[2]
            FROM unnest(%s::timestamptz[]) m (at) CROSS JOIN LATERAL (
                SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
                    ORDER BY extract(epoch FROM started_at - run_at)::float) AS waits
                FROM (
                    SELECT ended.* FROM unnest(%s::text[]) q (name) CROSS JOIN LATERAL (
                        SELECT started_at, run_at, finished_at FROM taskruns_endedrun
                        WHERE queue = q.name AND finished_at >= m.at AND finished_at < m.at + interval '1 minute'
                            AND status IN ('succeeded', 'dead') AND started_at >= run_at
                        ORDER BY finished_at LIMIT {SAMPLE}
                    ) ended ORDER BY finished_at LIMIT {SAMPLE}
                ) first
            ) w
            """,
            [minutes, queues],
        )
        waits = {at: (p50, p95) for at, p50, p95 in cursor.fetchall()}
    return [Minute(at, *counts.get(at, (0, 0)), *waits[at]) for at in minutes]
