"""The statements about dispatches that ended without a claim: refused, unreadable, or its reader died.

Like attempts they are counted, so that none is repeated for ever.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection

from pressroom.conf import declared_queues
from pressroom.sql.runs import TOLD, WAITING, Failure, SettledRun, rows_ended

FREE = 2
"""Dispatches in vain that cost nothing: a worker may die, and Redis lose its data, just when a message is taken."""
MOST_REFUSED = 5
"""Dispatches that Redis refuses, each after a longer pause, before the run is a dead letter."""

_OF_T = ", ".join(f"t.{column}" for column in TOLD.split(", "))


def missed(run_ids: Collection[uuid.UUID], failure: Failure, attempt: int | None = None) -> list[SettledRun]:
    """Waiting runs whose message was taken, by a process that died before it claimed them: due again.

    From the third time on that is a lost attempt, as often as the queue's ``max_attempts``. ``attempt``, where given,
    is how often the run had been claimed when the message was sent: one that was claimed since is left alone.
    """
    limits = ",".join(["(%s,%s::int)"] * len(declared_queues()))
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
        RETURNING {_OF_T}
        """,
        [
            *(item for queue in declared_queues().values() for item in (queue.name, queue.max_attempts)),
            list(run_ids),
            attempt,
            *dataclasses.astuple(failure),
        ],
    )


def refused(run_id: uuid.UUID, failure: Failure, counts: bool) -> list[SettledRun]:
    """A waiting run whose message Redis does not take: due again after a pause, dead after so many that count."""
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
        RETURNING {_OF_T}
        """,
        [counts, counts, run_id, *dataclasses.astuple(failure)],
    )


def fail_waiting(run_id: uuid.UUID, failure: Failure, result: str, attempt: int | None = None) -> list[SettledRun]:
    """A waiting run that no worker can take: it ends as a dead letter. Empty where it does not wait any more."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'dead', finished_at = clock_timestamp(), result = %s,
            error_type = %s, error = %s, traceback = %s
        WHERE id = %s AND status IN {WAITING} AND attempt = coalesce(%s, attempt) RETURNING {TOLD}
        """,
        [result, *dataclasses.astuple(failure), run_id, attempt],
    )
