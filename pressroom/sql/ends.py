"""The statements that end an attempt or a run. Only `execution` calls them, which also tells Celery.

Each function runs one statement on the default connection, in the caller's transaction if there is one.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from django.db import connection

from pressroom.conf import declared_queues
from pressroom.sql.runs import (
    ATTEMPT_RECORD,
    LOST,
    TOLD,
    WAITING,
    Claim,
    Failure,
    Message,
    SettledRun,
    rows_ended,
    update_held,
)

MOST_AT_ONCE = 1_000
_MOMENT = "coalesce(%s::timestamptz, clock_timestamp() + make_interval(secs => %s))"


def succeed(claim: Claim, result: str | None, children: str | None = None) -> bool:
    """End a run well. False where the claim is no longer ours: nothing was written."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskruns_succeed_1(%s, %s, %s, %s)", [claim.run_id, claim.token, result, children])
        return bool(cursor.fetchone()[0])


def ignore(claim: Claim) -> bool:
    """End a run without a verdict: it was replaced, or asked to be ignored."""
    return update_held("status = 'replaced', finished_at = clock_timestamp()", [], claim, unless_cancelled=True)


def reschedule(claim: Claim, message: Message, failure: Failure | None, result: str | None = None) -> bool:
    """The run goes on as ``message`` (a retry, or what replaced the task). False where the claim is lost.

    ``result``: the error that a retry is for, as the backend keeps it.
    """
    return update_held(
        f"""status = %s, name = %s, queue = %s, priority = %s, headers = %s, body = %s, properties = %s,
            run_at = {_MOMENT}, expires_at = {_MOMENT}, published_at = NULL, misses = 0, result = %s,
            error_type = %s, error = %s, traceback = %s""",
        [
            "retrying" if failure else "queued",
            message.name,
            message.queue,
            message.priority,
            message.headers,
            message.body,
            message.properties,
            message.eta,
            message.countdown or 0.0,
            message.expires,
            message.expires_in,
            result if failure else None,
            *dataclasses.astuple(failure or Failure("", "", "")),
        ],
        claim,
        attempt=("retried", failure) if failure else None,
        unless_cancelled=True,
    )


def fail(claim: Claim, failure: Failure, result: str | None, children: str | None = None) -> bool:
    """End a run as a dead letter. False where the claim is no longer ours."""
    return update_held(
        """status = 'dead', result = %s, children = %s, finished_at = clock_timestamp(),
           error_type = %s, error = %s, traceback = %s""",
        [result, children, *dataclasses.astuple(failure)],
        claim,
        attempt=("failed", failure),
    )


def lose_claim(run_id: uuid.UUID, token: uuid.UUID, failure: Failure = LOST) -> list[SettledRun]:
    """An attempt that ended without a verdict, known by its claim; empty where it had ended otherwise."""
    return _lose("t.claim = %s AND t.id = %s", [token, run_id], failure)


def lose_bundle(worker_id: int, token: uuid.UUID, failure: Failure = LOST) -> list[SettledRun]:
    """Every attempt under a token that has not ended."""
    return _lose("t.worker_id = %s AND t.claim = %s", [worker_id, token], failure)


def lose_orphans() -> list[SettledRun]:
    """Every attempt whose worker is dead."""
    # What is locked just now is looked at again with the next pass.
    return _lose("t.worker_id IN (SELECT id FROM taskruns_worker WHERE dead_at IS NOT NULL)", [], LOST, "SKIP LOCKED")


def _lose(where: str, values: list[Any], failure: Failure, locked: str = "") -> list[SettledRun]:
    """Running rows of which ``where`` holds: due again, or a dead letter after the queue's ``max_attempts``.

    Due since when they first were: what was lost does not wait behind all that came after it.
    """
    limits = ",".join(["(%s,%s::int)"] * len(declared_queues()))
    return rows_ended(
        f"""
        WITH limits (queue, max_attempts) AS (VALUES {limits}),
        gone AS (
            SELECT t.id, t.losses + 1 >= l.max_attempts AS dead, t.cancel_requested_at IS NOT NULL AS cancelled
            FROM taskruns_taskrun t LEFT JOIN limits l ON l.queue = t.queue
            WHERE t.status = 'running' AND {where} FOR UPDATE OF t {locked}
        ),
        changed AS (
            UPDATE taskruns_taskrun t
            SET losses = losses + 1, claim = NULL, published_at = NULL,
                status = CASE WHEN gone.cancelled THEN 'cancelled' WHEN gone.dead THEN 'dead' ELSE 'queued' END,
                finished_at = CASE WHEN gone.cancelled OR gone.dead THEN clock_timestamp() END,
                error_type = %s, error = %s, traceback = %s
            FROM gone WHERE t.id = gone.id
            RETURNING t.id, t.celery_id, t.name, t.headers, t.body, t.status, t.attempt, t.worker_id, t.started_at
        ),
        noted AS ({ATTEMPT_RECORD})
        SELECT {TOLD} FROM changed
        """,
        [
            *(item for queue in declared_queues().values() for item in (queue.name, queue.max_attempts)),
            *values,
            *dataclasses.astuple(failure),
            "lost",
            *dataclasses.astuple(failure),
        ],
    )


def postpone_unknown(run_id: uuid.UUID, failure: Failure, result: str, pause: float, limit: float) -> list[SettledRun]:
    """A waiting run whose task no worker knew: due again in ``pause`` seconds, dead after ``limit`` of them.

    Empty where it does not wait any more.
    """
    return rows_ended(
        f"""
        WITH old AS (
            SELECT id, coalesce(unknown_since, clock_timestamp()) AS since FROM taskruns_taskrun
            WHERE id = %s AND status IN {WAITING} AND run_at <= clock_timestamp() FOR UPDATE
        ),
        due AS (SELECT id, since, since + make_interval(secs => %s) <= clock_timestamp() AS over FROM old)
        UPDATE taskruns_taskrun t
        SET unknown_since = due.since, published_at = NULL, error_type = %s, error = %s, traceback = %s,
            status = CASE WHEN due.over THEN 'dead' ELSE t.status END,
            finished_at = CASE WHEN due.over THEN clock_timestamp() END, result = CASE WHEN due.over THEN %s END,
            run_at = CASE WHEN due.over THEN t.run_at ELSE clock_timestamp() + make_interval(secs => %s) END
        FROM due WHERE t.id = due.id
        RETURNING t.id, t.celery_id, t.name, t.headers, t.body, t.status
        """,
        [run_id, limit, *dataclasses.astuple(failure), result, pause],
    )


def cancel_waiting(run_id: uuid.UUID) -> list[SettledRun]:
    """A run that has not begun never will; empty where it has."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = %s AND status IN {WAITING} RETURNING {TOLD}
        """,
        [run_id],
    )


def cancel_claim(run_id: uuid.UUID, token: uuid.UUID, only_if_requested: bool = False) -> list[SettledRun]:
    """A running one that was stopped because it was to be cancelled."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = %s AND claim = %s AND status = 'running' {"AND cancel_requested_at IS NOT NULL" * only_if_requested}
        RETURNING {TOLD}
        """,
        [run_id, token],
    )


def expire() -> list[SettledRun]:
    """Waiting rows past their expiry become ``expired``: so many at once, as each is told to Celery."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'expired', finished_at = clock_timestamp()
        WHERE id IN (
            SELECT id FROM taskruns_taskrun WHERE status IN {WAITING} AND expires_at <= clock_timestamp()
            LIMIT {MOST_AT_ONCE} FOR UPDATE SKIP LOCKED
        )
        RETURNING {TOLD}
        """,
        [],
    )
