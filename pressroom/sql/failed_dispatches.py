"""The statements about misses: dispatches that ended without a claim.

Redis refused the message, no worker could read it, or the process that took it died. The ledger counts misses as it
counts losses, so that no dispatch is repeated for ever.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection

from pressroom.sql.runs import ENDED_COLUMNS, WAITING, Failure, SettledRun, max_attempts_of_queues, rows_ended

FREE = 2
"""Misses that do not count as a loss: a worker may die, or Redis lose its data, just as it takes a message."""
MOST_REFUSED = 5
"""Dispatches that Redis refuses before the run becomes a dead letter. The pause before each next one is longer."""

_ENDED_COLUMNS_OF_T = ", ".join(f"t.{column}" for column in ENDED_COLUMNS.split(", "))


def missed(run_ids: Collection[uuid.UUID], failure: Failure, attempt: int | None = None) -> list[SettledRun]:
    """Count a miss of waiting runs whose message was taken by a process that died before it claimed them.

    The runs are due again. From the third miss on, each also counts as a loss, and ``max_attempts`` losses make the run
    a dead letter. If ``attempt`` is given, it is how often the run had been claimed when its message was sent: a run
    that was claimed since is left alone.
    """
    limits, limit_values = max_attempts_of_queues()
    return rows_ended(
        f"""
        WITH limits (queue, max_attempts) AS (VALUES {limits}),
        counted AS (
            SELECT t.id, t.misses >= {FREE} AS costs,
                t.misses >= {FREE} AND t.losses + 1 >= l.max_attempts AS dead
            FROM taskruns_taskrun t LEFT JOIN limits l ON l.queue = t.queue
            WHERE t.id = ANY(%s) AND t.status IN {WAITING} AND t.published_at IS NOT NULL
              AND t.attempt = coalesce(%s, t.attempt)
            FOR UPDATE OF t
        )
        UPDATE taskruns_taskrun t
        SET published_at = NULL, misses = t.misses + 1, losses = t.losses + counted.costs::int,
            status = CASE WHEN counted.dead THEN 'dead' ELSE t.status END,
            finished_at = CASE WHEN counted.dead THEN clock_timestamp() END,
            error_type = %s, error = %s, traceback = %s
        FROM counted WHERE t.id = counted.id
        RETURNING {_ENDED_COLUMNS_OF_T}
        """,
        [
            *limit_values,
            list(run_ids),
            attempt,
            *dataclasses.astuple(failure),
        ],
    )


def refused(run_id: uuid.UUID, failure: Failure, counts: bool) -> list[SettledRun]:
    """Postpone a waiting run whose message Redis refused.

    If ``counts``, this is a miss. After MOST_REFUSED of them the run becomes a dead letter.
    """
    return rows_ended(
        f"""
        WITH old AS (
            SELECT id, misses + %s::int AS misses, misses + %s::int >= {MOST_REFUSED} AS over
            FROM taskruns_taskrun WHERE id = %s AND status IN {WAITING} FOR UPDATE
        )
        UPDATE taskruns_taskrun t
        SET published_at = NULL, misses = old.misses, error_type = %s, error = %s, traceback = %s,
            status = CASE WHEN old.over THEN 'dead' ELSE t.status END,
            finished_at = CASE WHEN old.over THEN clock_timestamp() END,
            run_at = CASE WHEN old.over THEN t.run_at
                ELSE clock_timestamp() + make_interval(secs => 0.5 * 2 ^ least(old.misses, 5)) END
        FROM old WHERE t.id = old.id
        RETURNING {_ENDED_COLUMNS_OF_T}
        """,
        [counts, counts, run_id, *dataclasses.astuple(failure)],
    )


def fail_waiting(run_id: uuid.UUID, failure: Failure, result: str, attempt: int | None = None) -> list[SettledRun]:
    """End a waiting run that no worker can execute as a dead letter. Returns an empty list if it no longer waits.

    ``attempt``: see `missed`.
    """
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'dead', finished_at = clock_timestamp(), result = %s,
            error_type = %s, error = %s, traceback = %s
        WHERE id = %s AND status IN {WAITING} AND attempt = coalesce(%s, attempt)
        RETURNING {ENDED_COLUMNS}
        """,
        [result, *dataclasses.astuple(failure), run_id, attempt],
    )
