"""The statements of the relay: which runs are due, which are published, and which messages Redis has lost."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable

from django.db import connection

from pressroom.sql.runs import WAITING


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A due run that the relay has just marked as published."""

    priority: int
    run_at: datetime.datetime
    run_id: uuid.UUID
    queue: str
    headers: str
    body: str
    properties: str
    losses: int
    attempt: int
    name: str


def take_due(windows: dict[str, int]) -> list[Published]:
    """Mark due runs as published and return them in the order in which the relay pushes them.

    ``windows`` holds for each queue how many published and unclaimed runs it may have.

    Suspects (runs that were lost more than once and may be what kills the workers) are published one at a time per
    queue. A run that only ran beside the culprit thus does not become a dead letter with it.

    Within the statement, ``taskruns_hold_1`` keeps to the pauses and ``taskruns_admit_3`` to the limits.

    Commit before the first push, so that no worker receives a message of a run that is not marked as published.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM taskruns_take_due_4(%s, %s::integer[])",
            [list(windows), list(windows.values())],
        )
        rows = sorted(cursor.fetchall(), key=lambda row: row[:3])
    return [Published(*row) for row in rows]


def unpublish(run_ids: Iterable[uuid.UUID]) -> int:
    """Have waiting runs whose message is not in Redis published again. Returns how many.

    This is safe if a message is in Redis after all: of two messages only one can claim the run.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE taskruns_liverun SET published_at = NULL WHERE id = ANY(%s) AND status IN {WAITING}",
            [list(run_ids)],
        )
        return int(cursor.rowcount)


def unclaimed(older_than: float) -> dict[str, set[uuid.UUID]]:
    """Return for each queue the runs that were published over ``older_than`` seconds ago and that no worker claimed."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT queue, array_agg(id) FROM taskruns_liverun
            WHERE status IN {WAITING} AND published_at < clock_timestamp() - make_interval(secs => %s)
            GROUP BY queue
            """,
            [older_than],
        )
        return {queue: set(ids) for queue, ids in cursor.fetchall()}


def taken_by_the_dead(run_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of the runs whose message a dead worker may have taken.

    These are the runs for whose queue a worker died after they were published.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT t.id FROM taskruns_liverun t
            WHERE t.id = ANY(%s) AND EXISTS (
                SELECT 1 FROM taskruns_worker w
                WHERE w.lost AND w.dead_at >= t.published_at AND w.queues @> to_jsonb(t.queue)
            )
            """,
            [list(run_ids)],
        )
        return {row[0] for row in cursor.fetchall()}
