"""The figures behind the exporter: one statement on the ledger, one on the schedules, one round trip to Redis.

A read costs the same with a million waiting runs as with an empty ledger, because counts come from small partial
indexes and stop at `CAP`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from pressroom.beat.entry import LedgerEntry, read_schedules
from pressroom.conf import SUSPECT_AFTER, WINDOW_LEAST, declared_queues
from pressroom.database.redis import is_away
from pressroom.enqueue.broker import prefixed
from pressroom.sql.runs import WAITING

CAP = 10_000
"""The number at which counting stops."""
LATEST = 100
"""How many of a queue's latest ended runs the mean run time is taken from."""
RECENTLY = 600
"""Seconds for which a worker that left or died is still reported."""
TIMEOUT = 2
"""Seconds that a statement may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class QueueFigures:
    """The figures of a queue. Counts stop at `CAP`; times are in seconds."""

    due: int
    """Runs that are due and not started, whether in Redis or not. Those that are paused are left out."""
    published: int
    """Those of the due runs whose message the relay has published."""
    paused: int
    """Runs that are due and do not start because their queue, task or key is paused."""
    held: int
    """Runs that are due and wait for a limit. They are not among ``due``."""
    later: int
    """Runs that are due in the future."""
    running: int
    dead: int
    oldest: float
    """How long the oldest due run has been due; 0 if no run is due."""
    held_oldest: float
    """How long the oldest of the runs that wait for a limit has been due; 0 without one."""
    relay_lag: float
    """How long the oldest run that the relay could have published has been due; 0 without one."""
    mean_runtime: float | None
    """The mean run time of the successes among the `LATEST` ended runs; None without a success."""
    workers: int
    slots: int

    @property
    def depth(self) -> int:
        """The number to scale on: runs that are due or running. A busy worker's queue is never empty."""
        return self.due + self.running

    @property
    def is_capped(self) -> bool:
        return max(self.due, self.paused, self.held, self.later, self.running, self.dead) >= CAP


@dataclasses.dataclass(frozen=True, slots=True)
class PauseFigures:
    """A pause that is in force."""

    kind: str
    """``queue``, ``task`` or ``key``."""
    name: str
    """For a key, that of the task, a colon and the key as JSON, or its digest if that is long."""
    by: str
    """The user who paused it; empty for a command or code."""
    age: float
    """Seconds since the pause."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """The figures from Postgres."""

    queues: dict[str, QueueFigures]
    pauses: list[PauseFigures]
    workers: dict[str, bool]
    """Whether a worker is alive, by Celery node name. Workers that died long ago are left out."""
    tick_ages: dict[str, float]
    """Seconds since the last round of ``relay`` and ``beat``. A process without a round so far is left out."""
    lateness: dict[str, float]
    """Seconds by which each enabled schedule is late."""
    broken_schedules: int
    """How many schedules beat has set aside."""
    stray_calls: int
    """How many calls are in no day's partition. The count stops at `CAP`."""
    connections: int
    max_connections: int


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """The figures from Redis."""

    lengths: dict[str, int]
    memory_used: int | None
    """Bytes; None if the Redis user may not run INFO."""
    memory_max: int | None
    """Bytes; None if the Redis user may not run INFO, or if Redis has no limit."""


def _queues_sql() -> str:
    """Return the statement for the figures of all queues.

    The index orders a queue's due rows by priority and then by time, so the statement counts each priority separately.
    """
    waiting = f"t.queue = q.name AND t.status IN {WAITING}"
    unpublished = f"{waiting} AND t.published_at IS NULL AND t.held IS NULL"
    return f"""
    SELECT q.name, CASE WHEN q.paused THEN 0 ELSE least(late.n + sent.n, {CAP}) END, sent.n,
        least(paused.n + lanes.paused + CASE WHEN q.paused THEN late.n + lanes.n ELSE 0 END, {CAP}),
        CASE WHEN q.paused THEN 0 ELSE lanes.n END, least(late.later + arrived.n, {CAP}),
        coalesce(running.n, 0), dead.n,
        CASE WHEN q.paused THEN 0 ELSE coalesce(extract(epoch FROM now() - least(late.oldest, sent.oldest)), 0) END,
        CASE WHEN q.paused THEN 0 ELSE coalesce(extract(epoch FROM now() - lanes.oldest), 0) END,
        CASE WHEN sent.n < {WINDOW_LEAST} AND NOT q.paused THEN coalesce(extract(epoch FROM now() - late.ready), 0)
            ELSE 0 END,
        ended.mean, coalesce(alive.workers, 0), coalesce(alive.slots, 0)
    FROM (
        SELECT name, EXISTS (SELECT FROM taskruns_pause p WHERE p.kind = 'queue' AND p.name = q.name) AS paused
        FROM unnest(%(queues)s::text[]) AS q (name)
    ) q
    CROSS JOIN LATERAL (
        WITH RECURSIVE p (priority) AS (
            SELECT min(t.priority) FROM taskruns_liverun t WHERE {unpublished}
            UNION ALL
            SELECT (SELECT min(t.priority) FROM taskruns_liverun t WHERE {unpublished} AND t.priority > p.priority)
            FROM p WHERE p.priority IS NOT NULL
        )
        SELECT sum(n)::int AS n, min(oldest) AS oldest, min(ready) AS ready, coalesce(sum(later), 0)::int AS later
        FROM (
            SELECT due.n, due.oldest, (
                SELECT count(*) FROM (
                    SELECT FROM taskruns_liverun t
                    WHERE {unpublished} AND t.priority = p.priority AND t.run_at > now() LIMIT {CAP}
                ) future
            ) AS later, (
                SELECT t.run_at FROM taskruns_liverun t
                WHERE {unpublished} AND t.priority = p.priority AND t.run_at <= now()
                    AND t.losses < {SUSPECT_AFTER} AND (t.expires_at IS NULL OR t.expires_at > now())
                ORDER BY t.run_at LIMIT 1
            ) AS ready
            FROM p CROSS JOIN LATERAL (
                SELECT count(*) AS n, min(run_at) AS oldest FROM (
                    SELECT t.run_at FROM taskruns_liverun t
                    WHERE {unpublished} AND t.priority = p.priority AND t.run_at <= now()
                    ORDER BY t.run_at LIMIT {CAP}
                ) due
            ) due
        ) priorities
    ) late
    CROSS JOIN LATERAL (
        SELECT count(*) AS n, min(run_at) AS oldest FROM (
            SELECT t.run_at FROM taskruns_liverun t WHERE {waiting} AND t.published_at IS NOT NULL LIMIT {CAP}
        ) published
    ) sent
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM (
            SELECT FROM taskruns_liverun t WHERE t.queue = q.name AND t.held = 3 LIMIT {CAP}
        ) paused
    ) paused
    CROSS JOIN LATERAL (
        -- A run in a lane whose task or key is paused waits for the pause.
        SELECT count(*) FILTER (WHERE NOT is_paused) AS n, min(run_at) FILTER (WHERE NOT is_paused) AS oldest,
            count(*) FILTER (WHERE is_paused) AS paused
        FROM (
            SELECT t.run_at, EXISTS (
                SELECT FROM taskruns_pause p
                WHERE p.kind = 'task' AND p.name = t.name OR p.kind = 'key' AND p.lane = t.lane
            ) AS is_paused
            FROM taskruns_liverun t WHERE t.queue = q.name AND t.held = 2 ORDER BY t.run_at LIMIT {CAP}
        ) held
    ) lanes
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM (
            SELECT FROM taskruns_liverun t WHERE t.held = 1 AND t.queue = q.name AND t.run_at > now() LIMIT {CAP}
        ) future
    ) arrived
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM (
            SELECT FROM taskruns_endedrun t WHERE t.queue = q.name AND t.status = 'dead' LIMIT {CAP}
        ) dead
    ) dead
    CROSS JOIN LATERAL (
        SELECT avg(extract(epoch FROM finished_at - started_at)) FILTER (WHERE status = 'succeeded') AS mean FROM (
            SELECT t.status, t.started_at, t.finished_at FROM taskruns_endedrun t
            WHERE t.queue = q.name ORDER BY t.finished_at DESC LIMIT {LATEST}
        ) latest
    ) ended
    LEFT JOIN (
        SELECT queue, count(*) AS n FROM (
            SELECT queue FROM taskruns_liverun WHERE status = 'running' ORDER BY worker_id LIMIT {CAP}
        ) r GROUP BY queue
    ) running ON running.queue = q.name
    LEFT JOIN (
        SELECT queue, count(*) AS workers, sum(slots) AS slots
        FROM taskruns_worker w CROSS JOIN LATERAL jsonb_array_elements_text(w.queues) AS consumed (queue)
        WHERE w.dead_at IS NULL AND w.heartbeat_at > now() - make_interval(secs => %(silence)s) GROUP BY queue
    ) alive ON alive.queue = q.name
    """


# One row with JSON parts, so that one statement reads everything.
SQL = f"""
SELECT
    (SELECT json_agg(queues) FROM ({_queues_sql()}) AS queues (name, due, published, paused, held, later,
        running, dead, oldest, held_oldest, relay_lag, mean_runtime, workers, slots)),
    (SELECT json_agg(json_build_object('kind', kind, 'by', by_id,
        'name', CASE kind WHEN 'key' THEN replace(lane, chr(31), ': ') ELSE name END,
        'age', greatest(extract(epoch FROM clock_timestamp() - since), 0))) FROM taskruns_pause),
    (SELECT json_object_agg(name, alive) FROM (
        SELECT name, bool_or(dead_at IS NULL AND heartbeat_at > now() - make_interval(secs => %(silence)s)) AS alive
        FROM taskruns_worker WHERE dead_at IS NULL OR dead_at > now() - make_interval(secs => {RECENTLY}) GROUP BY name
    ) workers),
    (SELECT json_object_agg(name, greatest(extract(epoch FROM clock_timestamp() - at), 0)) FROM taskruns_tick),
    (SELECT count(DISTINCT name) FROM taskruns_brokenschedule)::int,
    (SELECT count(*) FROM (SELECT FROM taskruns_taskcall_default LIMIT {CAP}) stray)::int,
    (SELECT sum(numbackends) FROM pg_stat_database)::int,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
"""


def read_ledger() -> Ledger:
    """Read all figures in one read-only transaction. Raises Django's database errors."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '{TIMEOUT}s'")
        cursor.execute(
            SQL, {"queues": [queue.name for queue in declared_queues().values()], "silence": settings.TASKRUNS_SILENCE}
        )
        row = cursor.fetchone()
        late = lateness()
        assert row is not None
        queues, pauses, workers, ticks, broken, stray, connections, most = row
        # The project may name its users by any column.
        users = {user.pk: user.get_username() for user in _users(one["by"] for one in pauses or ())}
    return Ledger(
        queues={one.pop("name"): QueueFigures(**one) for one in queues},
        pauses=[PauseFigures(**one | {"by": users.get(one["by"], "")}) for one in pauses or ()],
        workers=workers or {},
        tick_ages=ticks or {},
        lateness=late,
        broken_schedules=broken,
        stray_calls=stray,
        connections=connections,
        max_connections=most,
    )


def _users(keys: Iterable[Any]) -> Iterable[Any]:
    wanted = {key for key in keys if key is not None}
    return get_user_model()._default_manager.filter(pk__in=wanted) if wanted else ()


def lateness() -> dict[str, float]:
    """Return the seconds by which each enabled schedule is late, by name; 0 for a schedule that is not due.

    A schedule that cannot be read is left out, because it must not hide the figures of everything else.
    """
    now = timezone.now()
    enabled = PeriodicTask.objects.filter(
        Q(start_time=None) | Q(start_time__lte=now), Q(expires=None) | Q(expires__gt=now), enabled=True
    )
    return {read.name: _late(read.entry) for read in read_schedules(enabled) if read.entry is not None}


def _late(entry: LedgerEntry) -> float:
    remaining = entry.remaining()
    # `remaining` returns None for a clock whose time has come. Beat disables that schedule when it fires.
    return max(0.0, -remaining.total_seconds()) if remaining is not None else 0.0


def read_broker(client: redis.Redis) -> Broker:
    """Read all figures in one round trip. Raises redis.RedisError."""
    pipeline = client.pipeline(transaction=False)
    for queue in declared_queues().values():
        pipeline.llen(prefixed(queue.name))
    pipeline.info("memory")
    *lengths, memory = pipeline.execute(raise_on_error=False)
    for answer in lengths:
        if isinstance(answer, Exception) and is_away(answer):
            raise answer
    info = {} if isinstance(memory, Exception) else memory
    return Broker(
        # LLEN fails for a key that is not a list, so that queue is left out.
        lengths={
            queue.name: length
            for queue, length in zip(declared_queues().values(), lengths, strict=True)
            if type(length) is int
        },
        memory_used=info.get("used_memory"),
        memory_max=info.get("maxmemory") or None,
    )
