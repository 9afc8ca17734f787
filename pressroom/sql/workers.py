"""The statements about workers: they register, send heartbeats, leave, and are declared dead."""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Sequence

from django.db import connection


def register(name: str, queues: str, slots: int, place: str = "") -> int:
    """Register a worker under a new id and return it. ``queues`` is a JSON list of names.

    ``place`` is where its process runs. See `pressroom.process.place`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO taskruns_worker (name, queues, slots, place, started_at, heartbeat_at)
            VALUES (%s, %s::jsonb, %s, %s, clock_timestamp(), clock_timestamp()) RETURNING id
            """,
            [name, queues, slots, place],
        )
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def beat(worker_id: int, memory: int | None = None, stopping: bool = False) -> bool:
    """Write a worker's heartbeat. ``memory`` is in bytes. Returns False if it was declared dead meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_worker SET heartbeat_at = clock_timestamp(), memory = %s,
                stopping_at = CASE WHEN %s THEN coalesce(stopping_at, clock_timestamp()) END
            WHERE id = %s AND dead_at IS NULL
            """,
            [memory, stopping, worker_id],
        )
        return bool(cursor.rowcount)


def end(worker_ids: Sequence[int], lost: bool = False) -> int:
    """Mark workers as gone: they left, or, with ``lost``, are declared dead. Returns how many were alive."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskruns_worker SET dead_at = clock_timestamp(), lost = %s WHERE id = ANY(%s) AND dead_at IS NULL",
            [lost, list(worker_ids)],
        )
        return int(cursor.rowcount)


@dataclasses.dataclass(frozen=True, slots=True)
class LivingWorker:
    """A worker that is not known to be dead."""

    id: int
    heartbeat: datetime.datetime
    silent: float
    """Seconds since its last heartbeat, by Postgres's clock."""
    queues: list[str]
    slots: int
    place: str


def alive() -> list[LivingWorker]:
    """Return every worker that is not known to be dead."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, heartbeat_at, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8, queues::text, slots,
                place
            FROM taskruns_worker WHERE dead_at IS NULL
            """
        )
        return [
            LivingWorker(key, heartbeat, silent, json.loads(queues), slots, place)
            for key, heartbeat, silent, queues, slots, place in cursor.fetchall()
        ]


def claims(worker_id: int, seconds: float) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    """Return the claims of this worker's running attempts: those to stop, and those older than ``seconds``."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT claim, cancel_requested_at IS NOT NULL,
                started_at < clock_timestamp() - make_interval(secs => %s)
            FROM taskruns_liverun WHERE worker_id = %s AND status = 'running'
            """,
            [seconds, worker_id],
        )
        rows = cursor.fetchall()
    return {row[0] for row in rows if row[1]}, {row[0] for row in rows if row[2]}


def running_by_name() -> dict[str, int]:
    """Return how many runs each live worker executes, by its Celery node name."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT worker.name, count(run.id)
            FROM taskruns_worker worker
            LEFT JOIN taskruns_liverun run ON run.worker_id = worker.id AND run.status = 'running'
            WHERE worker.dead_at IS NULL
            GROUP BY worker.name
            """
        )
        return dict(cursor.fetchall())
