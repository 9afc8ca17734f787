"""The statements about limits. The relay admits runs in `pressroom.sql.dispatch.take_due`; see docs/decisions/0028."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction
from django.db.migrations import RunSQL

FORGET = 600
"""Seconds after which a limit ends that no process's code has any more. In a rolling update both codes run."""
LOCK = 482804169574
"""The key of the lock with which the relay, in ``admit.sql``, and whoever changes a limit exclude each other."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A limit: so many runs at once, or so many starts in a period, or both."""

    kind: str
    """``task`` or ``queue``."""
    name: str
    concurrency: int | None
    rate: int | None
    period: float | None
    """Seconds."""


def sync(limits: Sequence[Limit]) -> int:
    """Write the limits of this process's code, and end old ones. Returns how many were new or have changed.

    What an operator has set stays in force. A limit that has ended keeps its row: a lane without one waits until
    somebody knows its limit.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        changed = 0
        for limit in sorted(limits, key=lambda one: (one.kind, one.name)):
            cursor.execute(
                """
                INSERT INTO taskruns_limit AS l (kind, name, concurrency, rate, period, code_concurrency, code_rate,
                    code_period, seen_at)
                SELECT n.*, n.concurrency, n.rate, n.period, clock_timestamp()
                FROM (VALUES (%s, %s, %s::integer, %s::integer, %s::float8)) n (kind, name, concurrency, rate, period)
                ON CONFLICT (kind, name) DO UPDATE SET seen_at = excluded.seen_at,
                    code_concurrency = excluded.code_concurrency, code_rate = excluded.code_rate,
                    code_period = excluded.code_period,
                    concurrency = CASE WHEN l.set_at IS NULL THEN excluded.concurrency ELSE l.concurrency END,
                    rate = CASE WHEN l.set_at IS NULL THEN excluded.rate ELSE l.rate END,
                    period = CASE WHEN l.set_at IS NULL THEN excluded.period ELSE l.period END
                WHERE (l.code_concurrency, l.code_rate, l.code_period)
                    IS DISTINCT FROM (excluded.code_concurrency, excluded.code_rate, excluded.code_period)
                """,
                [limit.kind, limit.name, limit.concurrency, limit.rate, limit.period],
            )
            changed += cursor.rowcount
        cursor.execute(
            """
            UPDATE taskruns_limit l SET seen_at = clock_timestamp()
            FROM unnest(%s::text[], %s::text[]) AS known (kind, name)
            WHERE l.kind = known.kind AND l.name = known.name
              AND l.seen_at < clock_timestamp() - make_interval(secs => %s)
            """,
            [[limit.kind for limit in limits], [limit.name for limit in limits], FORGET / 4],
        )
        cursor.execute(
            """
            UPDATE taskruns_limit SET code_concurrency = NULL, code_rate = NULL, code_period = NULL,
                concurrency = CASE WHEN set_at IS NOT NULL THEN concurrency END,
                rate = CASE WHEN set_at IS NOT NULL THEN rate END,
                period = CASE WHEN set_at IS NOT NULL THEN period END
            WHERE seen_at < clock_timestamp() - make_interval(secs => %s)
              AND (code_concurrency IS NOT NULL OR code_rate IS NOT NULL)
            """,
            [FORGET],
        )
        if changed or cursor.rowcount:
            look_again(cursor)
    return changed


def set_limit(limit: Limit, user_id: Any = None) -> None:
    """Put a limit in force in place of the code's.

    Needs a transaction that has locked the limit's row, and that should end soon: the relay waits for it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_limit SET concurrency = %s, rate = %s, period = %s, set_at = clock_timestamp(),
                set_by_id = %s
            WHERE kind = %s AND name = %s
            """,
            [limit.concurrency, limit.rate, limit.period, user_id, limit.kind, limit.name],
        )
        look_again(cursor)


def reset_limit(kind: str, name: str) -> bool:
    """Put the code's limit in force again. Returns False if no operator has set one. Needs a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_limit SET concurrency = code_concurrency, rate = code_rate, period = code_period,
                set_at = NULL, set_by_id = NULL
            WHERE kind = %s AND name = %s AND set_at IS NOT NULL
            """,
            [kind, name],
        )
        was_set = bool(cursor.rowcount)
        if was_set:
            look_again(cursor)
    return was_set


def look_again(cursor: Any, lane: str | None = None) -> None:
    """Have the relay look at a lane, or at each. A relay at work may be closing one by what it has read."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    cursor.execute("UPDATE taskruns_lane SET is_ready = true WHERE NOT is_ready AND lane = coalesce(%s, lane)", [lane])


def reopen_lanes() -> int:
    """Have the relay look again at the lanes that wait for a freed place although one is free. Returns how many.

    The statement that ends a run with a limit notes its place. This finds free places without a note: code of an
    earlier release ended the run, or somebody did with `psql`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_lane SET is_ready = true WHERE id = ANY(ARRAY(
                SELECT l.id FROM taskruns_lane l
                JOIN taskruns_limit m ON m.kind = 'task' AND m.name = split_part(l.lane, chr(31), 1)
                WHERE NOT l.is_ready AND l.ready_at IS NULL AND m.concurrency IS DISTINCT FROM (
                    SELECT count(*) FROM (
                        SELECT FROM taskruns_liverun t WHERE t.lane = l.lane AND t.held IS NULL LIMIT m.concurrency
                    ) places
                )
                ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
            ))
            """
        )
        return int(cursor.rowcount)


def forget_starts() -> int:
    """Delete the starts that no rate counts any more. Returns how many.

    Each is kept for the period of its own limit, or that of the code, which may be in force again. One task with a
    rate by the day does not keep those of all others for a day.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH rated AS MATERIALIZED (
                SELECT CASE kind WHEN 'queue' THEN chr(31) || name ELSE name END AS owner,
                    greatest(period, code_period) AS period
                FROM taskruns_limit WHERE period IS NOT NULL OR code_period IS NOT NULL
            )
            DELETE FROM taskruns_start s
            WHERE at < clock_timestamp() - make_interval(secs => coalesce((SELECT min(period) FROM rated), 0))
              AND NOT EXISTS (
                SELECT FROM rated r
                WHERE r.owner = CASE WHEN left(s.lane, 1) = chr(31) THEN s.lane ELSE split_part(s.lane, chr(31), 1) END
                  AND s.at >= clock_timestamp() - make_interval(secs => r.period)
            )
            """
        )
        return int(cursor.rowcount)


def trigger() -> RunSQL:
    """Return the operation that has Postgres call ``taskruns_free_place_1`` for a run that gives back its place.

    Such a run waits again, or goes on in another lane or without one. What ends a run notes the place itself, in the
    same statement. A trigger there would cost every run, with a limit or without one, several microseconds.
    """
    name = "liverun_given_back_1"
    return RunSQL(
        f"""
        CREATE OR REPLACE TRIGGER {name} AFTER UPDATE OF held, lane ON taskruns_liverun FOR EACH ROW
        WHEN (OLD.lane IS NOT NULL AND OLD.held IS NULL
              AND (NEW.held IS NOT NULL OR NEW.lane IS DISTINCT FROM OLD.lane))
        EXECUTE FUNCTION taskruns_free_place_1()
        """,
        f"DROP TRIGGER IF EXISTS {name} ON taskruns_liverun",
    )
