"""The statements by which the ledger itself ends runs that never end by themselves: cancelled, expired, unknown."""

from __future__ import annotations

import dataclasses
import uuid

from django.db import connection

from app.taskruns.ledger import TOLD, WAITING, Claim, Ended, Failure, rows_ended

MOST_AT_ONCE = 1_000


def postpone_unknown(run_id: uuid.UUID, failure: Failure, result: str, pause: float, limit: float) -> list[Ended]:
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


def cancel_waiting(run_id: uuid.UUID) -> list[Ended]:
    """A run that has not begun never will; empty where it has."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = %s AND status IN {WAITING} RETURNING {TOLD}
        """,
        [run_id],
    )


def cancel_running(run_id: uuid.UUID) -> bool:
    """Ask the worker of a running one to stop it; it hears of it with its next heartbeat."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_taskrun SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
            WHERE id = %s AND status = 'running'
            """,
            [run_id],
        )
        return bool(cursor.rowcount)


def cancel_claim(run_id: uuid.UUID, token: uuid.UUID, only_if_requested: bool = False) -> list[Ended]:
    """A running one that was stopped because it was to be cancelled."""
    return rows_ended(
        f"""
        UPDATE taskruns_taskrun SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = %s AND claim = %s AND status = 'running' {"AND cancel_requested_at IS NOT NULL" * only_if_requested}
        RETURNING {TOLD}
        """,
        [run_id, token],
    )


def is_cancel_requested(claim: Claim) -> bool:
    """Whether somebody wants the attempt under this claim to stop."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM taskruns_taskrun WHERE id = %s AND claim = %s AND cancel_requested_at IS NOT NULL",
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() is not None


def expire() -> list[Ended]:
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
