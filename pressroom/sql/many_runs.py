"""The statements that change many runs at once, for operators: `pressroom.operator_actions` and `pressroom.bulk`.

Each locks its rows in the order of their keys, so that two of them do not wait for each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection

from pressroom.sql.runs import WAITING
from pressroom.uuid7 import uuid7


def _locked(condition: str) -> str:
    return f"SELECT id FROM taskruns_liverun WHERE id = ANY(%s) AND {condition} ORDER BY id FOR UPDATE"


def _changed(statement: str, values: list[Any]) -> set[uuid.UUID]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return {found for (found,) in cursor.fetchall()}


def lock_waiting(run_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Lock those of the runs that wait, and return them. Needs a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_locked(f"status IN {WAITING}"), [list(run_ids)])
        return [found for (found,) in cursor.fetchall()]


def request_cancellation(run_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Request the cancellation of those of the runs that are running, and return them."""
    return _changed(
        f"""
        UPDATE taskruns_liverun SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
        WHERE id = ANY(ARRAY({_locked("status = 'running'")})) AND status = 'running' RETURNING id
        """,
        [list(run_ids)],
    )


def hasten(run_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Make those of the runs due now that wait for a later time, and return them."""
    return _changed(
        f"""
        UPDATE taskruns_liverun SET run_at = clock_timestamp()
        WHERE id = ANY(ARRAY({_locked(f"status IN {WAITING} AND run_at > clock_timestamp()")})) RETURNING id
        """,
        [list(run_ids)],
    )


def published_in(run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return the queue of those of the runs whose message may be in Redis."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id, queue FROM taskruns_liverun
            WHERE id = ANY(%s) AND status IN {WAITING} AND published_at IS NOT NULL
            """,
            [list(run_ids)],
        )
        return dict(cursor.fetchall())


def move(lanes: Mapping[uuid.UUID, str | None], queue: str, priority: int | None) -> set[uuid.UUID]:
    """Give waiting runs another queue, if ``queue`` is not empty, and a priority, if it is not None. Returns the runs.

    ``lanes`` gives the lane of each run in its new queue. Those that are in Redis are published again. Needs a
    transaction in which `lock_waiting` has locked the runs.
    """
    run_ids = list(lanes)
    # The relay asks for the new lane and its place anew, and sets a run of a paused task aside once more.
    return _changed(
        f"""
        UPDATE taskruns_liverun t SET queue = coalesce(nullif(%s, ''), t.queue), priority = coalesce(%s, t.priority),
            lane = n.lane, held = CASE WHEN n.lane IS NOT NULL THEN 1 END, published_at = NULL
        FROM unnest(%s::uuid[], %s::text[]) n (id, lane)
        WHERE t.id = n.id AND t.id = ANY(%s) AND t.status IN {WAITING} RETURNING t.id
        """,
        [queue, priority, run_ids, list(lanes.values()), run_ids],
    )


def repeated(run_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of the runs that were run again already."""
    return _changed("SELECT retry_of_id FROM taskruns_taskrun WHERE retry_of_id = ANY(%s)", [list(run_ids)])


def repeat_all(lanes: Mapping[uuid.UUID, str | None]) -> dict[uuid.UUID, uuid.UUID]:
    """Copy runs that are dead, cancelled or expired as new queued runs. Returns each new run's id by that of the old.

    ``lanes`` gives the lane of each. A run whose Celery id a live run has is left out, as in `runs.repeat`.
    """
    run_ids = list(lanes)
    new_ids = [uuid7() for _ in run_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH old AS (
                SELECT e.*, n.new_id, n.new_lane
                FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) n (old_id, new_id, new_lane)
                JOIN taskruns_endedrun e ON e.id = n.old_id
                WHERE e.id = ANY(%s) AND e.status IN ('dead', 'cancelled', 'expired')
            ),
            new AS (
                INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, owner_id, status, created_at,
                    run_at, attempt, losses, misses, retry_of_id, progress_message, error_type, error, traceback,
                    lane, held)
                SELECT new_id, celery_id, name, queue, priority, owner_id, 'queued', clock_timestamp(),
                    clock_timestamp(), 0, 0, 0, id, '', '', '', '', new_lane, CASE WHEN new_lane IS NOT NULL THEN 1 END
                FROM old ON CONFLICT (celery_id) DO NOTHING RETURNING id, retry_of_id
            ),
            stored AS (
                INSERT INTO taskruns_taskcall (id, headers, body, properties)
                SELECT new.id, c.headers, c.body, c.properties
                FROM new JOIN taskruns_taskcall c ON c.id = new.retry_of_id WHERE c.id = ANY(%s)
            )
            SELECT retry_of_id, id FROM new
            """,
            [run_ids, new_ids, list(lanes.values()), run_ids, run_ids],
        )
        return dict(cursor.fetchall())


def lock_dead(run_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Lock those of the runs that are dead letters, and return them. Needs a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM taskruns_endedrun WHERE id = ANY(%s) AND status = 'dead' ORDER BY id FOR UPDATE",
            [list(run_ids)],
        )
        return [found for (found,) in cursor.fetchall()]
