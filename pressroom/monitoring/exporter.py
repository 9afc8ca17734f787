"""The exporter: figures of queues, workers and services for Prometheus, and for KEDA without Prometheus.

However many clients ask at once, the exporter queries Postgres and Redis at most once a second. It leaves out a figure
that it cannot know, rather than report 0.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from http import HTTPStatus
from types import ModuleType
from typing import Generic, TypeVar

from celery.utils import nodesplit
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pressroom.conf import declared_queues
from pressroom.enqueue.broker import broker_client
from pressroom.monitoring.queue_stats import TIMEOUT, Broker, Ledger, QueueFigures, read_broker, read_ledger
from pressroom.monitoring.server import Answer, exposition
from pressroom.plugins import parts

logger = logging.getLogger(__name__)
T = TypeVar("T")

FRESH = 1.0
"""Seconds for which an answer is reused."""
PATIENCE = 2.5
"""Seconds that a response waits for a service. KEDA waits 3 s for the response."""


class Source(Generic[T]):
    """A service that is queried at most once a second.

    Each source has a thread of its own, so a service that hangs does not delay the others.
    """

    def __init__(self, name: str, read: Callable[[], T]) -> None:
        self._name = name
        self._read = read
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._asked: Future[T | None] | None = None
        self._answered_at = 0.0
        self._is_up = True

    def read(self) -> T | None:
        """Return the answer of the last second, or a new one. None if the service is away."""
        with self._lock:
            if self._asked is None or (self._asked.done() and self._is_old()):
                self._asked = self._thread.submit(self._ask)
            asked = self._asked
        try:
            return asked.result(timeout=PATIENCE)
        except FutureTimeoutError:
            return None

    def _is_old(self) -> bool:
        return time.monotonic() - self._answered_at >= FRESH

    def _ask(self) -> T | None:
        answer, reason = None, ""
        try:
            answer = self._read()
        except Exception as error:  # noqa: BLE001 - an error in an app's `figures` must not affect other sources
            reason = (str(error).strip() or repr(error)).splitlines()[0]
        self._answered_at = time.monotonic()
        if self._is_up != (answer is not None):
            self._is_up = not self._is_up
            log = logger.info if self._is_up else logger.warning
            log("%s %s", self._name, "answers again" if self._is_up else f"does not answer: {reason}")
        return answer


def _ask_postgres() -> Ledger:
    close_old_connections()
    try:
        return read_ledger()
    except (DatabaseError, InterfaceError):
        connection.close()
        raise


def _ask_apps(apps: list[ModuleType]) -> list[Metric]:
    """Return what `figures` of each app's ``metrics.py`` reports about the app's own tables."""
    close_old_connections()
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = '{TIMEOUT}s'")
            return [metric for app in apps for metric in app.figures()]
    except (DatabaseError, InterfaceError):
        connection.close()
        raise


class Exporter(Collector):
    """Collects what Prometheus asks for, and answers over HTTP."""

    def __init__(self) -> None:
        client = broker_client(socket_timeout=2.0)
        self.postgres = Source("Postgres", _ask_postgres)
        self.redis = Source("Redis", lambda: read_broker(client))
        own = [metrics for metrics in parts("metrics", settings.TASKRUNS_APPS) if hasattr(metrics, "figures")]
        self.apps = Source("Postgres, queried for the apps' own figures,", lambda: _ask_apps(own)) if own else None
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector queries no service."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one scrape."""
        ledger, broker = self.postgres.read(), self.redis.read()
        yield GaugeMetricFamily("pressroom_postgres_up", "1 if Postgres answers, else 0.", ledger is not None)
        yield GaugeMetricFamily("pressroom_redis_up", "1 if Redis answers, else 0.", broker is not None)
        yield _by_queue(
            "pressroom_queue_max_wait_seconds",
            "Seconds that a due task of the queue may wait (max_wait).",
            {queue.name: queue.max_wait for queue in declared_queues().values()},
        )
        if ledger is not None:
            yield from _of_ledger(ledger)
        if broker is not None:
            yield from _of_broker(broker)
        if self.apps is not None:
            yield from self.apps.read() or ()

    def route(self, path: str, accept: str) -> Answer | None:
        """Answer ``/metrics``, ``/livez`` and ``/queues/<name>``. Returns None for any other path."""
        if path == "/metrics":
            return exposition(self.registry, accept)
        if path == "/livez":
            return HTTPStatus.OK, "text/plain", b"ok\n"
        if path.startswith("/queues/"):
            return self._queue(path.removeprefix("/queues/"), path)
        return None

    def _queue(self, name: str, path: str) -> Answer:
        if name not in declared_queues():
            return _problem(HTTPStatus.NOT_FOUND, f"Unknown queue. Queues: {', '.join(declared_queues())}.", path)
        ledger = self.postgres.read()
        if ledger is None:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "Postgres does not answer, so the depth is unknown.", path)
        figures = ledger.queues[name]
        answer = {
            "depth": figures.depth,
            "due": figures.due,
            "paused": figures.paused,
            "held": figures.held,
            "running": figures.running,
        }
        return HTTPStatus.OK, "application/json", json.dumps(answer).encode()


def _problem(status: HTTPStatus, detail: str, path: str) -> Answer:
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "instance": path}
    return status, "application/problem+json", json.dumps(body).encode()


def _by_queue(name: str, text: str, values: dict[str, float]) -> Metric:
    return _labelled(name, text, "queue_name", values)


def _labelled(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for one, value in values.items():
        family.add_metric([one], value)
    return family


_OF_QUEUE: tuple[tuple[str, str, Callable[[QueueFigures], float | None]], ...] = (
    (
        "celery_queue_length",
        "Tasks due and not started, whether in Redis or not; none of paused ones.",
        lambda q: q.due,
    ),
    ("pressroom_queue_depth", "Tasks due or running; none that wait for a pause. Scale on this.", lambda q: q.depth),
    ("pressroom_queue_paused_length", "Tasks due whose queue, task or key is paused.", lambda q: q.paused),
    ("pressroom_queue_held_length", "Tasks due that wait for a limit.", lambda q: q.held),
    ("pressroom_queue_later_length", "Tasks due in the future.", lambda q: q.later),
    ("pressroom_queue_published", "Tasks published to Redis and not started.", lambda q: q.published),
    ("pressroom_queue_running", "Tasks that are running.", lambda q: q.running),
    ("pressroom_queue_dead", "Dead letters that are stored.", lambda q: q.dead),
    ("pressroom_queue_capped", "1 if a count of the queue stopped at 10,000.", lambda q: q.is_capped),
    ("pressroom_queue_oldest_due_age_seconds", "Seconds that the oldest due task has been due.", lambda q: q.oldest),
    (
        "pressroom_queue_held_age_seconds",
        "Seconds that the oldest task that waits for a limit has been due.",
        lambda q: q.held_oldest,
    ),
    (
        "pressroom_relay_lag_seconds",
        "Seconds that the oldest due task has waited although the window had room for it.",
        lambda q: q.relay_lag,
    ),
    (
        "pressroom_queue_mean_runtime_seconds",
        "Mean run time of the latest runs that succeeded.",
        lambda q: q.mean_runtime,
    ),
    ("celery_active_worker_count", "Live workers that consume the queue.", lambda q: q.workers),
    ("celery_active_process_count", "Slots of the live workers that consume the queue.", lambda q: q.slots),
)


def _of_ledger(ledger: Ledger) -> Iterator[Metric]:
    for name, text, figure in _OF_QUEUE:
        values = {queue: figure(figures) for queue, figures in ledger.queues.items()}
        yield _by_queue(name, text, {queue: value for queue, value in values.items() if value is not None})
    pauses = GaugeMetricFamily(
        "pressroom_pause_age_seconds", "Seconds since the queue, task or key was paused.", labels=["kind", "name", "by"]
    )
    for pause in ledger.pauses:
        pauses.add_metric([pause.kind, pause.name, pause.by], pause.age)
    yield pauses
    by_host: dict[str, float] = {}
    for node, alive in ledger.workers.items():
        host = nodesplit(node)[1] or node
        by_host[host] = max(by_host.get(host, 0), alive)
    yield _labelled("celery_worker_up", "1 if a worker of the host is alive, else 0.", "hostname", by_host)
    yield _labelled(
        "pressroom_tick_age_seconds", "Seconds since the process's last round.", "process", ledger.tick_ages
    )
    yield _labelled(
        "pressroom_schedule_lateness_seconds", "Seconds by which the schedule is late.", "schedule", ledger.lateness
    )
    yield GaugeMetricFamily("pressroom_schedules_broken", "Schedules that beat has set aside.", ledger.broken_schedules)
    yield GaugeMetricFamily("pressroom_ledger_stray_calls", "Calls in no day's partition.", ledger.stray_calls)
    yield GaugeMetricFamily("pressroom_postgres_connections", "Connections to Postgres.", ledger.connections)
    yield GaugeMetricFamily(
        "pressroom_postgres_max_connections", "Connections that Postgres allows.", ledger.max_connections
    )


def _of_broker(broker: Broker) -> Iterator[Metric]:
    yield _by_queue("pressroom_queue_messages", "Length of the queue's list in Redis.", dict(broker.lengths))
    if broker.memory_used is not None:
        yield GaugeMetricFamily("pressroom_redis_memory_used_bytes", "Memory that Redis uses.", broker.memory_used)
    if broker.memory_max is not None:
        yield GaugeMetricFamily("pressroom_redis_memory_max_bytes", "Memory that Redis may use.", broker.memory_max)
