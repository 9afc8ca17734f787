"""The statements about limits. The relay admits runs in `pressroom.sql.dispatch.take_due`; see docs/decisions/0028."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from django.db import connection, transaction
from django.db.migrations import RunSQL

FORGET = 600
"""Seconds after which a limit ends that no process's code has any more. In a rolling update both codes run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the code: so many runs at once, or so many starts in a period, or both."""

    name: str
    """The task's name."""
    concurrency: int | None
    rate: int | None
    period: float | None
    """Seconds."""


def sync(limits: Sequence[Limit]) -> int:
    """Write the limits of this process's code, and end old ones. Returns how many were new or have changed.

    A limit that has ended keeps its row: a lane without one waits until somebody knows its limit.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        changed = 0
        for limit in sorted(limits, key=lambda one: one.name):
            cursor.execute(
                """
                INSERT INTO taskruns_limit AS l (name, concurrency, rate, period, seen_at)
                VALUES (%s, %s, %s, %s, clock_timestamp())
                ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, rate = excluded.rate,
                    period = excluded.period, seen_at = excluded.seen_at
                WHERE (l.concurrency, l.rate, l.period)
                    IS DISTINCT FROM (excluded.concurrency, excluded.rate, excluded.period)
                """,
                [limit.name, limit.concurrency, limit.rate, limit.period],
            )
            changed += cursor.rowcount
        cursor.execute(
            """
            UPDATE taskruns_limit SET seen_at = clock_timestamp()
            WHERE name = ANY(%s) AND seen_at < clock_timestamp() - make_interval(secs => %s)
            """,
            [[limit.name for limit in limits], FORGET / 4],
        )
        cursor.execute(
            """
            UPDATE taskruns_limit SET concurrency = NULL, rate = NULL, period = NULL
            WHERE seen_at < clock_timestamp() - make_interval(secs => %s)
              AND (concurrency IS NOT NULL OR rate IS NOT NULL)
            """,
            [FORGET],
        )
        if changed or cursor.rowcount:
            cursor.execute("UPDATE taskruns_lane SET is_ready = true WHERE NOT is_ready")
    return changed


def forget_starts() -> int:
    """Delete the starts that no rate counts any more. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM taskruns_start
            WHERE at < clock_timestamp() - make_interval(secs => coalesce((SELECT max(period) FROM taskruns_limit), 0))
            """
        )
        return int(cursor.rowcount)


def triggers() -> list[RunSQL]:
    """Return the migration's operations that have Postgres call ``taskruns_free_place_1`` for each place that is freed.

    The conditions are checked without a call, so other runs cost next to nothing.
    """
    occupied = "OLD.lane IS NOT NULL AND OLD.held IS NULL"
    return [
        RunSQL(
            f"""
            CREATE TRIGGER liverun_{name}_1 AFTER {event} ON taskruns_liverun FOR EACH ROW WHEN ({condition})
            EXECUTE FUNCTION taskruns_free_place_1()
            """,
            f"DROP TRIGGER IF EXISTS liverun_{name}_1 ON taskruns_liverun",
        )
        for name, event, condition in (
            ("ended", "DELETE", occupied),
            ("given_back", "UPDATE OF held", f"{occupied} AND NEW.held IS NOT NULL"),
        )
    ]
