"""The statements about misses: dispatches that ended without a claim.

Redis refused the message, no worker could read it, or the process that took it died. The ledger counts misses as it
counts losses, so that no dispatch is repeated for ever.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection
from typing import Any

from django.db import connection

from pressroom.sql.runs import WAIT_AGAIN, WAITING, Failure, SettledRun, all_as_ended, end_live, max_attempts_of_queues

FREE = 2
"""Misses that do not count as a loss: a worker may die, or Redis lose its data, just as it takes a message."""
MOST_REFUSED = 5
"""Dispatches that Redis refuses before the run becomes a dead letter. The pause before each next one is longer."""


def missed(run_ids: Collection[uuid.UUID], failure: Failure, attempt: int | None = None) -> list[SettledRun]:
    """Count a miss of waiting runs whose message was taken by a process that died before it claimed them.

    The runs are due again. From the third miss on, each also counts as a loss, and ``max_attempts`` losses make the run
    a dead letter. If ``attempt`` is given, it is how often the run had been claimed when its message was sent: a run
    that was claimed since is left alone.
    """
    limits, limit_values = max_attempts_of_queues()
    return _counted(
        f"""
        WITH limits (queue, max_attempts) AS (VALUES {limits}),
        counted AS (
            SELECT t.id, t.misses >= {FREE} AS costs,
                t.misses >= {FREE} AND t.losses + 1 >= l.max_attempts AS is_dead
            FROM taskruns_liverun t LEFT JOIN limits l ON l.queue = t.queue
            WHERE t.id = ANY(%s) AND t.status IN {WAITING} AND t.published_at IS NOT NULL
              AND t.attempt = coalesce(%s, t.attempt)
            FOR UPDATE OF t
        )
        UPDATE taskruns_liverun t
        SET published_at = NULL, misses = t.misses + 1, losses = t.losses + counted.costs::int,
            error_type = %s, error = %s, traceback = %s
        FROM counted WHERE t.id = counted.id
        RETURNING t.id, coalesce(counted.is_dead, false)
        """,
        [*limit_values, list(run_ids), attempt, *dataclasses.astuple(failure)],
    )


def refused(run_id: uuid.UUID, failure: Failure, counts: bool) -> list[SettledRun]:
    """Postpone a waiting run whose message Redis refused.

    If ``counts``, this is a miss. After MOST_REFUSED of them the run becomes a dead letter.
    """
    return _counted(
        f"""
        UPDATE taskruns_liverun t
        SET published_at = NULL, held = {WAIT_AGAIN}, misses = t.misses + %s::int,
            error_type = %s, error = %s, traceback = %s,
            run_at = CASE WHEN t.misses + %s::int >= {MOST_REFUSED} THEN t.run_at
                ELSE clock_timestamp() + make_interval(secs => 0.5 * 2 ^ least(t.misses + %s::int, 5)) END
        WHERE t.id = %s AND t.status IN {WAITING}
        RETURNING t.id, t.misses >= {MOST_REFUSED}
        """,
        [counts, *dataclasses.astuple(failure), counts, counts, run_id],
    )


def _counted(statement: str, values: list[Any]) -> list[SettledRun]:
    """Run a statement that returns waiting runs and whether each is dead. Ends those. Returns all."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()
    dead = [run_id for run_id, is_dead in rows if is_dead]
    ended = end_live("dead", "t.id = ANY(%s)", [dead]) if dead else []
    return [*ended, *all_as_ended([run_id for run_id, is_dead in rows if not is_dead])]


def fail_waiting(run_id: uuid.UUID, failure: Failure, result: str, attempt: int | None = None) -> list[SettledRun]:
    """End a waiting run that no worker can execute as a dead letter. Returns an empty list if it no longer waits.

    ``attempt``: see `missed`.
    """
    return end_live(
        "dead",
        f"t.id = %s AND t.status IN {WAITING} AND t.attempt = coalesce(%s, t.attempt)",
        [run_id, attempt],
        result=result,
        **dataclasses.asdict(failure),
    )
