"""The statements that record lost attempts: their worker died. Only `execution` calls them, which also tells Celery."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from django.db import connection

from pressroom.sql.runs import (
    ATTEMPT_RECORD,
    LOST,
    WAIT_AGAIN,
    Failure,
    SettledRun,
    all_as_ended,
    end_live,
    max_attempts_of_queues,
)


def lose_claim(run_id: uuid.UUID, token: uuid.UUID, failure: Failure = LOST) -> list[SettledRun]:
    """Record the loss of the attempt under this claim. Returns an empty list if it had ended before."""
    return _lose("t.claim = %s AND t.id = %s", [token, run_id], failure)


def lose_bundle(worker_id: int, token: uuid.UUID, failure: Failure = LOST) -> list[SettledRun]:
    """Record the loss of every attempt under the token that has not ended."""
    return _lose("t.worker_id = %s AND t.claim = %s", [worker_id, token], failure)


def lose_orphans() -> list[SettledRun]:
    """Record the loss of every attempt whose worker is dead."""
    # The next pass looks again at rows that are locked now.
    return _lose("t.worker_id IN (SELECT id FROM taskruns_worker WHERE dead_at IS NOT NULL)", [], LOST, "SKIP LOCKED")


def _lose(where: str, values: list[Any], failure: Failure, locked: str = "") -> list[SettledRun]:
    """Count a loss for the running rows that match ``where``, and return them.

    Each becomes due again, or a dead letter after the queue's ``max_attempts``, or cancelled if that was requested.
    ``run_at`` stays, so that a lost run does not wait behind the runs that came after it.
    """
    limits, limit_values = max_attempts_of_queues()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH limits (queue, max_attempts) AS (VALUES {limits}),
            gone AS (
                SELECT t.id, CASE WHEN t.cancel_requested_at IS NOT NULL THEN 'cancelled'
                    WHEN t.losses + 1 >= l.max_attempts THEN 'dead' ELSE 'queued' END AS status
                FROM taskruns_liverun t LEFT JOIN limits l ON l.queue = t.queue
                WHERE t.status = 'running' AND {where} FOR UPDATE OF t {locked}
            ),
            changed AS (
                UPDATE taskruns_liverun t
                SET losses = losses + 1, claim = NULL, published_at = NULL, status = 'queued', held = {WAIT_AGAIN},
                    error_type = %s, error = %s, traceback = %s
                FROM gone WHERE t.id = gone.id
                RETURNING t.id, t.attempt, t.worker_id, t.started_at, gone.status
            ),
            noted AS ({ATTEMPT_RECORD})
            SELECT id, status FROM changed
            """,
            [*limit_values, *values, *dataclasses.astuple(failure), "lost", *dataclasses.astuple(failure)],
        )
        rows = cursor.fetchall()
    lost: list[SettledRun] = []
    for status in ("cancelled", "dead"):
        if ids := [run_id for run_id, now in rows if now == status]:
            lost += end_live(status, "t.id = ANY(%s)", [ids])
    return [*lost, *all_as_ended([run_id for run_id, now in rows if now == "queued"])]
