"""The statements that end an attempt or a run. Only `pressroom.execution` calls them: it also informs Celery.

Each function runs one statement on the default connection, in the caller's transaction if there is one. Only
`postpone_unknown` runs several, and needs a transaction. The functions that take a claim write nothing if that claim is
no longer held.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

from django.db import connection

from pressroom.database.connections import rows_of
from pressroom.sql import runs
from pressroom.sql.runs import WAITING, Claim, Failure, Message, SettledRun

MOST_AT_ONCE = 1_000
"""Runs that one `expire` ends at most."""
_HELD = "t.id = %s AND t.claim = %s AND t.status = 'running'"
_MOMENT = "coalesce(%s::timestamptz, clock_timestamp() + make_interval(secs => %s))"


def succeed(claim: Claim, result: str | None, children: str | None = None) -> bool:
    """End a run as succeeded. Returns False if the claim is no longer held."""
    [row] = rows_of("SELECT taskruns_succeed_2(%s, %s, %s, %s)", claim.run_id, claim.token, result, children)
    return bool(row[0])


def ignore(claim: Claim) -> bool:
    """End a run without a verdict: other tasks replaced it, or it raised Ignore. Returns False as `succeed` does.

    A run whose cancellation was requested is not ended either.
    """
    where = f"{_HELD} AND t.cancel_requested_at IS NULL"
    return bool(runs.end_live("replaced", where, [claim.run_id, claim.token]))


def reschedule(claim: Claim, message: Message, failure: Failure | None, result: str | None = None) -> bool:
    """Have the run go on as ``message``: a retry, or the task that replaced it. Returns False as `ignore` does.

    With ``failure`` it is a retry. ``result`` is the error that caused the retry, as the result backend stores it.
    """
    values = [
        "retrying" if failure else "queued",
        message.name,
        message.queue,
        message.priority,
        message.eta,
        message.countdown or 0.0,
        message.expires,
        message.expires_in,
        result if failure else None,
        *dataclasses.astuple(failure or Failure("", "", "")),
        message.lane,
        message.lane,
        claim.run_id,
        claim.token,
        message.headers,
        message.body,
        message.properties,
        claim.run_id,
    ]
    noted, attempt = "", []
    if failure is not None:
        noted, attempt = f", noted AS ({runs.ATTEMPT_RECORD})", ["retried", *dataclasses.astuple(failure)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH changed AS (
                UPDATE taskruns_liverun t SET status = %s, name = %s, queue = %s, priority = %s, run_at = {_MOMENT},
                    expires_at = {_MOMENT}, published_at = NULL, misses = 0, result = %s, error_type = %s, error = %s,
                    traceback = %s,
                    lane = %s, held = CASE WHEN %s::text IS NOT NULL THEN 1 END
                WHERE {_HELD} AND t.cancel_requested_at IS NULL
                RETURNING id, attempt, worker_id, started_at
            ),
            called AS (
                UPDATE taskruns_taskcall c SET headers = %s, body = %s, properties = %s
                FROM changed WHERE c.id = changed.id AND c.id = %s
            ){noted}
            SELECT 1 FROM changed
            """,
            [*values, *attempt],
        )
        return cursor.fetchone() is not None


def fail(claim: Claim, failure: Failure, result: str | None, children: str | None = None) -> bool:
    """End a run as a dead letter. Returns False if the claim is no longer held."""
    outcome = {"result": result, "children": children} | dataclasses.asdict(failure)
    return bool(runs.end_live("dead", _HELD, [claim.run_id, claim.token], "failed", **outcome))


def postpone_unknown(run_id: uuid.UUID, failure: Failure, result: str, pause: float, limit: float) -> list[SettledRun]:
    """Postpone a waiting run whose task's name the worker does not know by ``pause`` seconds.

    ``limit`` seconds after the first worker did not know it, the run becomes a dead letter. Returns an empty list if
    the run no longer waits.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE taskruns_liverun
            SET unknown_since = coalesce(unknown_since, clock_timestamp()), published_at = NULL,
                held = {runs.WAIT_AGAIN}, error_type = %s, error = %s, traceback = %s,
                run_at = CASE WHEN unknown_since + make_interval(secs => %s) <= clock_timestamp() THEN run_at
                    ELSE clock_timestamp() + make_interval(secs => %s) END
            WHERE id = %s AND status IN {WAITING} AND run_at <= clock_timestamp()
            RETURNING unknown_since + make_interval(secs => %s) <= clock_timestamp()
            """,
            [*dataclasses.astuple(failure), limit, pause, run_id, limit],
        )
        row = cursor.fetchone()
    if row is None:
        return []
    if row[0]:
        return runs.end_live("dead", f"t.id = %s AND t.status IN {WAITING}", [run_id], result=result)
    return [runs.as_ended(run_id)]


def cancel_waiting(run_id: uuid.UUID) -> list[SettledRun]:
    """Cancel a run that waits. Returns an empty list if it does not wait."""
    return runs.end_live("cancelled", f"t.id = %s AND t.status IN {WAITING}", [run_id])


def cancel_all_waiting(run_ids: Sequence[uuid.UUID]) -> list[SettledRun]:
    """Cancel those of the runs that wait, and return them. Locks them in the order of their keys."""
    waiting = f"SELECT id FROM taskruns_liverun WHERE id = ANY(%s) AND status IN {WAITING} ORDER BY id FOR UPDATE"
    return runs.end_live("cancelled", f"t.id = ANY(ARRAY({waiting}))", [list(run_ids)])


def cancel_claim(run_id: uuid.UUID, token: uuid.UUID, only_if_requested: bool = False) -> list[SettledRun]:
    """End the run under this claim as cancelled, after the worker stopped its attempt."""
    requested = " AND t.cancel_requested_at IS NOT NULL" if only_if_requested else ""
    return runs.end_live("cancelled", _HELD + requested, [run_id, token])


def expire() -> list[SettledRun]:
    """End waiting runs that are past their expiry as expired, up to MOST_AT_ONCE: Celery is informed of each."""
    past = f"""t.id IN (
        SELECT id FROM taskruns_liverun WHERE status IN {WAITING} AND expires_at <= clock_timestamp()
        LIMIT {MOST_AT_ONCE} FOR UPDATE SKIP LOCKED
    )"""
    return runs.end_live("expired", past, [])
