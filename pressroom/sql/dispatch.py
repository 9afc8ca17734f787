"""The statements of the relay: which rows are due, which are in Redis, which are not any more."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable

from django.db import connection

from pressroom.sql.runs import WAITING


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A due run as the relay takes it."""

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
    """Mark due rows as published, per queue up to its window of published and unclaimed ones.

    Of those that were lost more than once, and may be what kills the workers, one at a time: so whoever only ran
    beside it is not given up with it.

    Returns them in the order in which they are to be pushed. The mark is committed before any push, so that a
    worker never finds a message whose row does not know that it was sent.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM taskruns_take_due_1(%s, %s::integer[])",
            [list(windows), list(windows.values())],
        )
        rows = sorted(cursor.fetchall(), key=lambda row: row[:3])
    return [Published(*row[1:]) for row in rows]


def unpublish(run_ids: Iterable[uuid.UUID]) -> int:
    """Waiting rows whose message is not in Redis: to be published again. Returns how many.

    Safe when the message is there after all: the second one finds nothing to claim.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE taskruns_taskrun SET published_at = NULL WHERE id = ANY(%s) AND status IN {WAITING}",
            [list(run_ids)],
        )
        return int(cursor.rowcount)


def unclaimed(older_than: float) -> dict[str, set[uuid.UUID]]:
    """Per queue, the rows published more than ``older_than`` seconds ago that nobody has claimed."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT queue, array_agg(id) FROM taskruns_taskrun
            WHERE status IN {WAITING} AND published_at < clock_timestamp() - make_interval(secs => %s)
            GROUP BY queue
            """,
            [older_than],
        )
        return {queue: set(ids) for queue, ids in cursor.fetchall()}


def taken_by_the_dead(run_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Those published runs of whose queue a worker has died since: it may have had their message."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT t.id FROM taskruns_taskrun t
            WHERE t.id = ANY(%s) AND EXISTS (
                SELECT 1 FROM taskruns_worker w
                WHERE w.lost AND w.dead_at >= t.published_at AND w.queues @> to_jsonb(t.queue)
            )
            """,
            [list(run_ids)],
        )
        return {row[0] for row in cursor.fetchall()}
