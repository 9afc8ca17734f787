"""What a worker's main process and the relay count, under celery-exporter's names where the meaning is the same.

The main process hears of every child's outcome, and outlives the child: one ordinary registry is right for every pool.
Labels are bounded: task names that are registered, declared queues, so many classes of exceptions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from celery.utils import nodesplit
from celery.worker import state
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pressroom.conf import declared_queues
from pressroom.monitoring.server import MetricsServer, metrics_of
from pressroom.queues import LONGEST_TIME_LIMIT, Queue

logger = logging.getLogger(__name__)

LADDER = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
"""Seconds: edges of a histogram, below a queue's own limits."""
MOST_EXCEPTIONS = 50
"""Classes of exceptions that a process names; the rest are ``other``."""
OTHER = "other"

TASK = ("name", "hostname", "queue_name")


def runtime_buckets(queues: Iterable[Queue]) -> list[float]:
    """Edges that end with the queues' own limits: what came near one, or over it, is seen."""
    edges: set[float] = set()
    for queue in queues:
        hard = queue.time_limit or LONGEST_TIME_LIMIT
        edges |= {edge for edge in LADDER if edge < hard} | {hard, queue.soft_time_limit or hard}
    return sorted(edges)


def wait_buckets(queues: Iterable[Queue]) -> list[float]:
    """Edges around the time that a task of these queues may wait."""
    edges: set[float] = set()
    for queue in queues:
        edges |= {edge for edge in LADDER if edge < queue.max_wait}
        edges |= {queue.max_wait, queue.max_wait * 2, queue.max_wait * 10}
    return sorted(edges)


class Active(Collector):
    """Counted when asked."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("celery_worker_tasks_active", "Tasks that the worker runs.", labels=["hostname"])
        family.add_metric([self.hostname], len(state.active_requests))
        yield family


class Metrics:
    """The registry of one process, whose name on Celery's network is ``hostname``; of a worker with its queues."""

    def __init__(self, hostname: str, queues: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.hostname = nodesplit(hostname)[1] or hostname
        self._exceptions: set[str] = set()

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, [*TASK, *more], registry=self.registry)

        self.sent = counter("celery_task_sent", "Runs given to a worker: messages, and what a worker took without.")
        self.received = counter("celery_task_received", "Runs that the worker took.")
        self.started = counter("celery_task_started", "Tasks that a slot took on.")
        self.succeeded = counter("celery_task_succeeded", "Tasks that succeeded.")
        self.failed = counter("celery_task_failed", "Tasks that were given up.", "exception")
        self.retried = counter("celery_task_retried", "Attempts after which the task is tried again.")
        self.rejected = counter("celery_task_rejected", "Messages that a task rejected.")
        self.revoked = counter("celery_task_revoked", "Tasks that were stopped, or found to be revoked.")
        self.lost = counter("pressroom_task_lost", "Attempts that ended without a verdict: due again.")
        self.dropped = counter("pressroom_task_dropped", "Messages of tasks that were done or running elsewhere.")
        declared = declared_queues()
        consumed = [declared[name] for name in queues if name in declared] or list(declared.values())

        def histogram(name: str, text: str, buckets: list[float]) -> Histogram:
            return Histogram(name, text, TASK, buckets=buckets, registry=self.registry)

        self.runtime = histogram("celery_task_runtime", "Seconds that it ran.", runtime_buckets(consumed))
        self.wait = histogram("celery_task_queue_wait_time", "Seconds from due to started.", wait_buckets(consumed))

    def task(self, name: str, queue: str | None) -> tuple[str, str, str]:
        """The labels of a task."""
        return name, self.hostname, queue if queue in declared_queues() else OTHER

    def count_failure(self, task: tuple[str, str, str], exception: str) -> None:
        """Count a failure by the exception's class."""
        if exception not in self._exceptions:
            if len(self._exceptions) >= MOST_EXCEPTIONS:
                exception = OTHER
            else:
                self._exceptions.add(exception)
        self.failed.labels(*task, exception).inc()

    def serve(self, port: int) -> MetricsServer:
        """Listen. Raises OSError where the port is taken; the caller has the server serve."""
        server = MetricsServer(port, metrics_of(self.registry))
        logger.info("metrics on port %s", server.port)
        return server


class RelayMetrics(Metrics):
    """With what is known of the relay alone."""

    def __init__(self, hostname: str) -> None:
        super().__init__(hostname)
        self.refused = Counter(
            "pressroom_relay_refused", "Pushes that Redis refused.", ["queue_name"], registry=self.registry
        )
        self.is_refused = Gauge(
            "pressroom_queue_refused", "Whether Redis takes no message for the queue.", ["queue_name"],
            registry=self.registry,
        )  # fmt: skip
        self.errors = Counter(
            "pressroom_relay_errors", "Rounds of the relay that failed by an error of its own.", registry=self.registry
        )
        for queue in declared_queues():
            self.refused.labels(queue)
            self.is_refused.labels(queue)


class WorkerMetrics(Metrics):
    """With what is known of a worker alone."""

    current: WorkerMetrics | None = None
    """This process's; None where nobody scrapes it."""

    def __init__(self, hostname: str, queues: Iterable[str]) -> None:
        super().__init__(hostname, queues)
        self.registry.register(Active(self.hostname))
        ProcessCollector(registry=self.registry)


def exception_name(error: Any) -> str:
    """The class of what a child raised, also where it could not be pickled."""
    error = getattr(error, "exc", None) or error
    return str(getattr(error, "exc_cls_name", None) or type(error).__name__)
