"""The statements of the relay: which rows are due, which are in Redis, which are not any more."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable

from django.db import connection

from app.taskruns.ledger import LIVE, SUSPECT_AFTER, WAITING
from app.taskruns.messages import envelope


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

    def message(self) -> str:
        """What is pushed to Redis. One that was lost before says that a worker had it."""
        return envelope(
            self.queue, self.headers, self.body, self.properties, self.run_id,
            attempt=self.attempt, redelivered=self.losses > 0, due=self.run_at.timestamp(),
        )  # fmt: skip


def take_due(windows: dict[str, int]) -> list[Published]:
    """Mark due rows as published, per queue up to its window of published and unclaimed ones.

    Of those that were lost more than once, and may be what kills the workers, one at a time: so whoever only ran
    beside it is not given up with it.

    Returns them in the order in which they are to be pushed. The mark is committed before any push, so that a
    worker never finds a message whose row does not know that it was sent.
    """
    values = ",".join(["(%s,%s::int)"] * len(windows))
    unpublished = f"t.queue = room.name AND t.status IN {WAITING} AND t.published_at IS NULL"
    # Not clock_timestamp(), which no index can be asked for: every run that is due some other day would be read.
    due = f"""
        SELECT t.id, t.priority, t.run_at FROM taskruns_taskrun t
        WHERE {unpublished} AND t.run_at <= statement_timestamp()
          AND (t.expires_at IS NULL OR t.expires_at > statement_timestamp())
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH q (name, places) AS (VALUES {values}),
            room AS (
                SELECT q.name, q.places - (SELECT count(*) FROM taskruns_taskrun t WHERE t.queue = q.name
                       AND t.status IN {WAITING} AND t.published_at IS NOT NULL) AS places,
                    (NOT EXISTS (SELECT FROM taskruns_taskrun t WHERE t.queue = q.name AND t.status IN {LIVE}
                       AND t.losses >= {SUSPECT_AFTER} AND (t.status = 'running' OR t.published_at IS NOT NULL)
                    ))::int AS suspects
                FROM q
            ),
            due AS (
                SELECT d.id FROM room CROSS JOIN LATERAL (
                    -- The index gives the due ones of one priority, so each is asked by itself.
                    WITH RECURSIVE p (priority) AS (
                        SELECT min(t.priority) FROM taskruns_taskrun t WHERE {unpublished}
                        UNION ALL
                        SELECT (SELECT min(t.priority) FROM taskruns_taskrun t
                                WHERE {unpublished} AND t.priority > p.priority)
                        FROM p WHERE p.priority IS NOT NULL
                    )
                    SELECT one.id FROM p CROSS JOIN LATERAL (
                        {due} AND t.priority = p.priority AND t.losses < {SUSPECT_AFTER}
                        ORDER BY t.run_at LIMIT greatest(room.places, 0) FOR UPDATE SKIP LOCKED
                    ) one
                    ORDER BY one.priority, one.run_at LIMIT greatest(room.places, 0)
                ) d
            ),
            suspect AS (
                SELECT d.id FROM room CROSS JOIN LATERAL (
                    {due} AND t.losses >= {SUSPECT_AFTER}
                    ORDER BY t.priority, t.run_at LIMIT room.suspects FOR UPDATE SKIP LOCKED
                ) d
            )
            UPDATE taskruns_taskrun t SET published_at = clock_timestamp()
            FROM (SELECT id FROM due UNION ALL SELECT id FROM suspect) chosen WHERE t.id = chosen.id
            RETURNING t.priority, t.run_at, t.id, t.queue, t.headers, t.body, t.properties, t.losses,
                t.attempt, t.name
            """,
            [item for pair in windows.items() for item in pair],
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
