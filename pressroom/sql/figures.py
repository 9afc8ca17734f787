"""The figures of ended runs by minute, hour, queue and task: how many, how long they waited, how long they took.

The relay counts each ended run once, in the order of their ends, and moves a mark in the same transaction: a count
that is killed has counted nothing. Runs that ended before the mark are in the figures, whatever becomes of their rows.
The few after it are read from the ledger. A page therefore costs the same after ten million runs as after a thousand.

Waits and run times are kept as histograms. Each bucket ends 19 % after the one before, so four of them are a factor of
two. The first one ends at SHORTEST.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from django.db import connection, transaction

SHORTEST = 0.001
"""Seconds at which the first bucket ends."""
STEPS = 4
"""Buckets for a factor of two."""
LAST_BUCKET = 140
SLICE = 5_000
"""The most ended runs of a queue that one count reads, unless more ended in the same microsecond."""
DAYS = 8
"""Days for which the figures of hours are kept."""
MINUTES_KEPT = "2 hours"
"""How long the figures of minutes are kept, as an interval of Postgres."""
LATE = 5
"""Seconds between the end of a run and its storing after which the run is noted, because the count may be over.

Only a slot's ends are stored later than they happen: ``finish_and_claim.sql`` notes them.
"""
UNCOUNTED = 5_000
"""The most ended runs of a queue that a page reads from the ledger: the newest that are not counted yet."""

_RUN = "queue, name, status, run_at, started_at, finished_at"
_UNTIL = f"coalesce((SELECT until FROM taskruns_figuresmark), now() - interval '{DAYS} days')"
DELETE = f"""
WITH gone AS (DELETE FROM taskruns_endedrun WHERE id = ANY(%s) RETURNING id, {_RUN}),
noted AS (
    INSERT INTO taskruns_uncountedrun (run_id, is_deleted, {_RUN})
    SELECT id, true, {_RUN} FROM gone WHERE finished_at >= {_UNTIL}
)
SELECT count(*) FROM gone
"""
"""Deletes ended runs, and notes those that are not counted yet."""
# Each index begins with the queue. Another release may have queues that this one does not declare.
_QUEUES = """queues (name) AS (
    SELECT min(queue) FROM taskruns_endedrun
    UNION ALL
    SELECT (SELECT min(queue) FROM taskruns_endedrun WHERE queue > queues.name) FROM queues
    WHERE queues.name IS NOT NULL
)"""


def _bucket(interval: str) -> str:
    seconds = f"greatest(extract(epoch FROM {interval})::float8, {SHORTEST})"
    return f"least(greatest(ceil({STEPS} * ln({seconds} / {SHORTEST}) / ln(2::float8)), 0), {LAST_BUCKET})::smallint"


# Counts the rows of the CTE `ended`.
_COUNTED = f"""
SELECT date_bin('1 minute', finished_at, timestamptz '1970-01-01 00:00+00') AS at, queue, name, kind, bucket,
    count(*) AS number
FROM ended CROSS JOIN LATERAL (VALUES
    (CASE WHEN status IN ('succeeded', 'dead') THEN status ELSE 'other' END, 0::smallint),
    ('wait', CASE WHEN status IN ('succeeded', 'dead') AND started_at >= run_at
        THEN {_bucket("started_at - run_at")} END),
    ('runtime', CASE WHEN status IN ('succeeded', 'dead') THEN {_bucket("finished_at - started_at")} END)
) AS figure (kind, bucket)
WHERE bucket IS NOT NULL AND (kind <> 'runtime' OR started_at IS NOT NULL)
GROUP BY 1, 2, 3, 4, 5
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """A moment, and the transactions that were open then."""

    at: datetime.datetime
    """LATE seconds ago, by the database's clock."""
    own: str
    """The number of this edge's own transaction. Those that had written something by then have lower ones."""


def edge() -> Edge:
    """Return the present edge."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT clock_timestamp() - interval '{LATE} seconds', pg_current_xact_id()::xid::text",
        )
        row = cursor.fetchone()
    assert row is not None
    return Edge(*row)


def is_settled(edge: Edge) -> bool:
    """Return whether all transactions of an edge have ended. What ended before its ``at`` is committed then, except
    what the trigger notes.
    """
    # Those of this database: a snapshot would wait for those of all others of the server, too.
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT NOT EXISTS (
                SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND backend_xid IS NOT NULL AND age(backend_xid) > age(%(own)s::xid)
            ) AND NOT EXISTS (
                SELECT FROM pg_prepared_xacts
                WHERE database = current_database() AND age(transaction) > age(%(own)s::xid)
            )
            """,
            {"own": edge.own},
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def count_ended(until: datetime.datetime) -> bool:
    """Count the next runs that ended before ``until``, which an `Edge` allows. Returns whether there may be more.

    Another process that counts at the same time does so alone.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT until FROM taskruns_figuresmark FOR UPDATE SKIP LOCKED")
        mark = cursor.fetchone()
        if mark is None:
            cursor.execute(
                "INSERT INTO taskruns_figuresmark (id, until) VALUES (1, now() - make_interval(days => %s))"
                " ON CONFLICT DO NOTHING",
                [DAYS],
            )
            return bool(cursor.rowcount)
        since = mark[0]
        if since >= until:
            return False
        till = _end_of_slice(cursor, since, until)
        _count(cursor, since, till)
        cursor.execute("UPDATE taskruns_figuresmark SET until = %s", [till])
        cursor.execute(f"DELETE FROM taskruns_figure WHERE minutes = 1 AND at < now() - interval '{MINUTES_KEPT}'")
        cursor.execute(
            "DELETE FROM taskruns_figure WHERE minutes = 60 AND at < now() - make_interval(days => %s)", [DAYS]
        )
    return bool(till < until)


def _end_of_slice(cursor: Any, since: datetime.datetime, until: datetime.datetime) -> datetime.datetime:
    cursor.execute(
        f"""
        WITH RECURSIVE {_QUEUES}
        SELECT min(last.finished_at) FROM queues CROSS JOIN LATERAL (
            SELECT finished_at FROM taskruns_endedrun
            WHERE queue = queues.name AND finished_at >= %s AND finished_at < %s
            ORDER BY finished_at OFFSET {SLICE} LIMIT 1
        ) last
        """,
        [since, until],
    )
    last = cursor.fetchone()[0]
    return until if last is None else max(last, since + datetime.timedelta(microseconds=1))


def _count(cursor: Any, since: datetime.datetime, till: datetime.datetime) -> None:
    # One statement, because both tables have to be read at the same moment.
    cursor.execute(
        f"""
        WITH RECURSIVE {_QUEUES}, noted AS (
            DELETE FROM taskruns_uncountedrun WHERE finished_at < %(till)s RETURNING is_deleted, {_RUN}
        ),
        ended AS (
            SELECT e.* FROM queues CROSS JOIN LATERAL (
                SELECT {_RUN} FROM taskruns_endedrun
                WHERE queue = queues.name AND finished_at >= %(since)s AND finished_at < %(till)s
            ) e
            UNION ALL
            SELECT {_RUN} FROM noted WHERE is_deleted = (finished_at >= %(since)s)
        ),
        counted AS ({_COUNTED})
        INSERT INTO taskruns_figure AS f (minutes, at, queue, name, kind, bucket, number)
        SELECT minutes, date_bin(make_interval(mins => minutes), at, timestamptz '1970-01-01 00:00+00'), queue, name,
            kind, bucket, sum(number)
        FROM counted CROSS JOIN (VALUES (1), (60)) AS length (minutes)
        WHERE minutes = 60 OR at >= now() - interval '{MINUTES_KEPT}'
        GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (minutes, at, queue, name, kind, bucket) DO UPDATE SET number = f.number + excluded.number
        """,
        {"since": since, "till": till},
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number of runs, of all tasks in a minute or an hour, or of a task in all of the time that was asked for."""

    at: datetime.datetime | None
    name: str | None
    kind: str
    bucket: int
    number: int


def read(minutes: int, since: datetime.datetime) -> list[Number]:
    """Return the figures since ``since``, by minutes (1) or hours (60). ``since`` is the beginning of one.

    Includes the runs that are not counted yet, up to UNCOUNTED for each queue.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE {_QUEUES}, mark (until) AS MATERIALIZED (SELECT {_UNTIL}),
            ended AS (
                SELECT e.* FROM mark CROSS JOIN queues CROSS JOIN LATERAL (
                    SELECT {_RUN} FROM taskruns_endedrun
                    WHERE queue = queues.name AND finished_at >= greatest(mark.until, %(since)s)
                    ORDER BY finished_at DESC LIMIT {UNCOUNTED}
                ) e
                UNION ALL
                SELECT {_RUN} FROM taskruns_uncountedrun CROSS JOIN mark
                WHERE is_deleted = (finished_at >= until) AND finished_at >= %(since)s
            ),
            counted AS ({_COUNTED}),
            everything AS (
                SELECT at, name, kind, bucket, number FROM taskruns_figure
                WHERE minutes = %(minutes)s AND at >= %(since)s
                UNION ALL
                SELECT date_bin(make_interval(mins => %(minutes)s), at, timestamptz '1970-01-01 00:00+00'), name, kind,
                    bucket, number
                FROM counted
            )
            SELECT at, name, kind, bucket, sum(number)::bigint FROM everything
            GROUP BY GROUPING SETS ((at, kind, bucket), (name, kind, bucket))
            """,
            {"minutes": minutes, "since": since},
        )
        return [Number(*row) for row in cursor.fetchall()]


def missing_since() -> datetime.datetime | None:
    """Return since when runs have not been counted, if `read` leaves some of them out."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE {_QUEUES}, mark (until) AS MATERIALIZED (SELECT {_UNTIL})
            SELECT until FROM mark WHERE EXISTS (
                SELECT FROM queues CROSS JOIN LATERAL (
                    SELECT FROM taskruns_endedrun WHERE queue = queues.name AND finished_at >= mark.until
                    ORDER BY finished_at DESC OFFSET {UNCOUNTED} LIMIT 1
                ) more
            )
            """
        )
        row = cursor.fetchone()
    return row[0] if row else None


def percentile(histogram: dict[int, int], share: float) -> float | None:
    """Return the seconds within which ``share`` of the runs of a histogram are. None for an empty one.

    The error is at most that of a bucket: a fifth up or down.
    """
    rank, below = share * sum(histogram.values()), 0
    for bucket in sorted(histogram):
        number = histogram[bucket]
        if number and below + number >= rank:
            part = (rank - below) / number
            high: float = SHORTEST * 2 ** (bucket / STEPS)
            return high * part if bucket == 0 else float(high * 2 ** ((part - 1) / STEPS))
        below += number
    return None
