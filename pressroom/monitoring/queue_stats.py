"""The figures behind the exporter: one statement about the ledger, one about the schedules, one round trip to Redis.

A read costs the same at a million waiting runs as at none: counts come from small partial indexes and end at `CAP`.
"""

from __future__ import annotations

import dataclasses

import redis
from django.conf import settings
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
"""Where counting ends."""
LATEST = 100
"""Ended runs of a queue of which the mean run time is taken."""
RECENTLY = 600
"""Seconds that a worker which left or died is still told of."""
TIMEOUT = 2
"""Seconds that a statement may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class QueueFigures:
    """Counts end at `CAP`; times are seconds."""

    due: int
    """Due and not started, in Redis or not."""
    published: int
    """Of these, those whose message was given to Redis."""
    running: int
    dead: int
    oldest: float
    """How long the oldest of the due ones has been due; 0 without any."""
    relay_lag: float
    """How long the oldest one is due that the relay could have published; 0 without any."""
    mean_runtime: float | None
    """Of those that succeeded among the latest that ended; None without any."""
    workers: int
    slots: int

    @property
    def depth(self) -> int:
        """What there is to do: the number to scale on, for a busy worker's queue is not empty."""
        return self.due + self.running

    @property
    def is_capped(self) -> bool:
        return max(self.due, self.running, self.dead) >= CAP


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """What Postgres tells."""

    queues: dict[str, QueueFigures]
    workers: dict[str, bool]
    """By Celery's node name: whether it is alive. Those dead for long are left out."""
    tick_ages: dict[str, float]
    """Seconds since a round of ``relay`` and ``beat``; none that never did one."""
    lateness: dict[str, float]
    """Seconds by which each enabled schedule is late."""
    broken_schedules: int
    """How many beat has set aside."""
    connections: int
    max_connections: int


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """What Redis tells."""

    lengths: dict[str, int]
    memory_used: int | None
    """Bytes; None where the user may not ask."""
    memory_max: int | None
    """Bytes; None without a limit, too."""


def _queues_sql() -> str:
    """Of a queue's due rows the index gives those of one priority by time, so each is counted by itself.

    What ended is asked for by queue first, as only the queue's own index has it, and those of the queues before it fall
    away afterwards. That of all queues by time would be read to its end for a queue of which little ended.
    """
    waiting = f"t.queue = q.name AND t.status IN {WAITING}"
    unpublished = f"{waiting} AND t.published_at IS NULL"
    return f"""
    SELECT q.name, least(late.n + sent.n, {CAP}), sent.n, coalesce(running.n, 0), dead.n,
        coalesce(extract(epoch FROM now() - least(late.oldest, sent.oldest)), 0),
        CASE WHEN sent.n < {WINDOW_LEAST} THEN coalesce(extract(epoch FROM now() - late.ready), 0) ELSE 0 END,
        ended.mean, coalesce(alive.workers, 0), coalesce(alive.slots, 0)
    FROM unnest(%(queues)s::text[]) AS q (name)
    CROSS JOIN LATERAL (
        WITH RECURSIVE p (priority) AS (
            SELECT min(t.priority) FROM taskruns_taskrun t WHERE {unpublished}
            UNION ALL
            SELECT (SELECT min(t.priority) FROM taskruns_taskrun t WHERE {unpublished} AND t.priority > p.priority)
            FROM p WHERE p.priority IS NOT NULL
        )
        SELECT sum(n)::int AS n, min(oldest) AS oldest, min(ready) AS ready FROM (
            SELECT due.n, due.oldest, (
                SELECT t.run_at FROM taskruns_taskrun t
                WHERE {unpublished} AND t.priority = p.priority AND t.run_at <= now()
                    AND t.losses < {SUSPECT_AFTER} AND (t.expires_at IS NULL OR t.expires_at > now())
                ORDER BY t.run_at LIMIT 1
            ) AS ready
            FROM p CROSS JOIN LATERAL (
                SELECT count(*) AS n, min(run_at) AS oldest FROM (
                    SELECT t.run_at FROM taskruns_taskrun t
                    WHERE {unpublished} AND t.priority = p.priority AND t.run_at <= now()
                    ORDER BY t.run_at LIMIT {CAP}
                ) due
            ) due
        ) priorities
    ) late
    CROSS JOIN LATERAL (
        SELECT count(*) AS n, min(run_at) AS oldest FROM (
            SELECT t.run_at FROM taskruns_taskrun t WHERE {waiting} AND t.published_at IS NOT NULL LIMIT {CAP}
        ) published
    ) sent
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM (
            SELECT FROM taskruns_taskrun t WHERE t.queue = q.name AND t.status = 'dead' LIMIT {CAP}
        ) dead
    ) dead
    CROSS JOIN LATERAL (
        SELECT avg(extract(epoch FROM finished_at - started_at)) FILTER (WHERE status = 'succeeded') AS mean FROM (
            SELECT t.queue, t.status, t.started_at, t.finished_at FROM taskruns_taskrun t
            WHERE t.queue <= q.name AND t.finished_at IS NOT NULL
            ORDER BY t.queue DESC, t.finished_at DESC LIMIT {LATEST}
        ) latest WHERE queue = q.name
    ) ended
    LEFT JOIN (
        SELECT queue, count(*) AS n FROM (
            SELECT queue FROM taskruns_taskrun WHERE status = 'running' ORDER BY worker_id LIMIT {CAP}
        ) r GROUP BY queue
    ) running ON running.queue = q.name
    LEFT JOIN (
        SELECT queue, count(*) AS workers, sum(slots) AS slots
        FROM taskruns_worker w CROSS JOIN LATERAL jsonb_array_elements_text(w.queues) AS consumed (queue)
        WHERE w.dead_at IS NULL AND w.heartbeat_at > now() - make_interval(secs => %(silence)s) GROUP BY queue
    ) alive ON alive.queue = q.name
    """


# In one row, so that it is one statement: its parts are JSON.
SQL = f"""
SELECT
    (SELECT json_agg(queues) FROM ({_queues_sql()}) AS queues (name, due, published, running, dead, oldest, relay_lag,
        mean_runtime, workers, slots)),
    (SELECT json_object_agg(name, alive) FROM (
        SELECT name, bool_or(dead_at IS NULL AND heartbeat_at > now() - make_interval(secs => %(silence)s)) AS alive
        FROM taskruns_worker WHERE dead_at IS NULL OR dead_at > now() - make_interval(secs => {RECENTLY}) GROUP BY name
    ) workers),
    (SELECT json_object_agg(name, greatest(extract(epoch FROM clock_timestamp() - at), 0)) FROM taskruns_tick),
    (SELECT count(DISTINCT name) FROM taskruns_brokenschedule)::int,
    (SELECT sum(numbackends) FROM pg_stat_database)::int,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
"""


def read_ledger() -> Ledger:
    """One read, in a transaction that writes nothing. Raises Django's database errors."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '{TIMEOUT}s'")
        cursor.execute(
            SQL, {"queues": [queue.name for queue in declared_queues().values()], "silence": settings.TASKRUNS_SILENCE}
        )
        row = cursor.fetchone()
        late = lateness()
    assert row is not None
    queues, workers, ticks, broken, connections, most = row
    return Ledger(
        queues={one.pop("name"): QueueFigures(**one) for one in queues},
        workers=workers or {},
        tick_ages=ticks or {},
        lateness=late,
        broken_schedules=broken,
        connections=connections,
        max_connections=most,
    )


def lateness() -> dict[str, float]:
    """Seconds by which each enabled schedule, by its name, is late; 0 for one that is not due.

    A schedule that cannot be read is left out: it must not cost the figures of everything else.
    """
    now = timezone.now()
    enabled = PeriodicTask.objects.filter(
        Q(start_time=None) | Q(start_time__lte=now), Q(expires=None) | Q(expires__gt=now), enabled=True
    )
    return {read.name: _late(read.entry) for read in read_schedules(enabled) if read.entry is not None}


def _late(entry: LedgerEntry) -> float:
    remaining = entry.remaining()
    # None of a clock whose time has come: beat disables it with that.
    return max(0.0, -remaining.total_seconds()) if remaining is not None else 0.0


def read_broker(client: redis.Redis) -> Broker:
    """One round trip. Raises redis.RedisError."""
    pipeline = client.pipeline(transaction=False)
    for queue in declared_queues().values():
        pipeline.llen(prefixed(queue.name))
    pipeline.info("memory")
    *lengths, memory = pipeline.execute(raise_on_error=False)
    for answer in lengths:
        if isinstance(answer, Exception) and is_away(answer):
            raise answer
    told = {} if isinstance(memory, Exception) else memory
    return Broker(
        # What stands at a queue's key and is no list has no length.
        lengths={
            queue.name: length
            for queue, length in zip(declared_queues().values(), lengths, strict=True)
            if type(length) is int
        },
        memory_used=told.get("used_memory"),
        memory_max=told.get("maxmemory") or None,
    )
