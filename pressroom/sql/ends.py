"""The statements that end an attempt or a run. Only `pressroom.execution` calls them: it also informs Celery.

Each function runs one statement on the default connection, in the caller's transaction if there is one. The functions
that take a claim write nothing if that claim is no longer held.
"""

from __future__ import annotations

import dataclasses
import uuid

from django.db import connection

from pressroom.sql import runs
from pressroom.sql.runs import (
    ENDED_COLUMNS,
    WAITING,
    Claim,
    Failure,
    Message,
    SettledRun,
    rows_ended,
)

MOST_AT_ONCE = 1_000
"""Runs that one `expire` ends at most."""
_MOMENT = "coalesce(%s::timestamptz, clock_timestamp() + make_interval(secs => %s))"


def succeed(claim: Claim, result: str | None, children: str | None = None) -> bool:
    """End a run as succeeded. Returns False if the claim is no longer held."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskruns_succeed_1(%s, %s, %s, %s)", [claim.run_id, claim.token, result, children])
        return bool(cursor.fetchone()[0])


def ignore(claim: Claim) -> bool:
    """End a run without a verdict: other tasks replaced it, or it raised Ignore. Returns False as `succeed` does.

    A run whose cancellation was requested is not ended either.
    """
    return runs.update_held("status = 'replaced', finished_at = clock_timestamp()", [], claim, unless_cancelled=True)


def reschedule(claim: Claim, message: Message, failure: Failure | None, result: str | None = None) -> bool:
    """Have the run go on as ``message``: a retry, or the task that replaced it. Returns False as `ignore` does.

    With ``failure`` it is a retry. ``result`` is the error that caused the retry, as the result backend stores it.
    """
    return runs.update_held(
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
    """End a run as a dead letter. Returns False if the claim is no longer held."""
    return runs.update_held(
        """status = 'dead', result = %s, children = %s, finished_at = clock_timestamp(),
           error_type = %s, error = %s, traceback = %s""",
        [result, children, *dataclasses.astuple(failure)],
        claim,
        attempt=("failed", failure),
    )


def postpone_unknown(run_id: uuid.UUID, failure: Failure, result: str, pause: float, limit: float) -> list[SettledRun]:
    """Postpone a waiting run whose task's name the worker does not know by ``pause`` seconds.

    ``limit`` seconds after the first worker did not know it, the run becomes a dead letter. Returns an empty list if
    the run no longer waits.
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
    """Cancel a run that waits. Returns an empty list if it does not wait."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = %s AND status IN {WAITING} RETURNING {ENDED_COLUMNS}
        """,
        [run_id],
    )


def cancel_claim(run_id: uuid.UUID, token: uuid.UUID, only_if_requested: bool = False) -> list[SettledRun]:
    """End the run under this claim as cancelled, after the worker stopped its attempt."""
    requested = "AND cancel_requested_at IS NOT NULL" if only_if_requested else ""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = %s AND claim = %s AND status = 'running' {requested}
        RETURNING {ENDED_COLUMNS}
        """,
        [run_id, token],
    )


def expire() -> list[SettledRun]:
    """End waiting runs that are past their expiry as expired, up to MOST_AT_ONCE: Celery is informed of each."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'expired', finished_at = clock_timestamp()
        WHERE id IN (
            SELECT id FROM taskruns_taskrun WHERE status IN {WAITING} AND expires_at <= clock_timestamp()
            LIMIT {MOST_AT_ONCE} FOR UPDATE SKIP LOCKED
        )
        RETURNING {ENDED_COLUMNS}
        """,
        [],
    )
