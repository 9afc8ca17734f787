"""The metrics of a worker's main process and of the relay, under celery-exporter's names where the meaning is the same.

The main process learns the outcome of every child, and outlives the child. One ordinary registry therefore serves every
pool. Labels are bounded: registered task names, declared queues, and at most `MOST_EXCEPTIONS` exception classes.
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
"""Histogram edges in seconds, used below a queue's own limits."""
MOST_EXCEPTIONS = 50
"""Exception classes that a process uses as labels; the rest become ``other``."""
OTHER = "other"

TASK = ("name", "hostname", "queue_name")


def runtime_buckets(queues: Iterable[Queue]) -> list[float]:
    """Return edges that end with the queues' own limits, so that runs near or over a limit show up."""
    edges: set[float] = set()
    for queue in queues:
        hard = queue.time_limit or LONGEST_TIME_LIMIT
        edges |= {edge for edge in LADDER if edge < hard} | {hard, queue.soft_time_limit or hard}
    return sorted(edges)


def wait_buckets(queues: Iterable[Queue]) -> list[float]:
    """Return edges around the time that a task of these queues may wait."""
    edges: set[float] = set()
    for queue in queues:
        edges |= {edge for edge in LADDER if edge < queue.max_wait}
        edges |= {queue.max_wait, queue.max_wait * 2, queue.max_wait * 10}
    return sorted(edges)


class Active(Collector):
    """Collects the number of active tasks at each scrape."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "celery_worker_tasks_active", "Tasks that the worker is running.", labels=["hostname"]
        )
        family.add_metric([self.hostname], len(state.active_requests))
        yield family


class Metrics:
    """The registry of one process.

    ``hostname`` is the process's Celery node name. ``queues`` are the queues that a worker consumes; they choose the
    histograms' edges.
    """

    def __init__(self, hostname: str, queues: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.hostname = nodesplit(hostname)[1] or hostname
        self._exceptions: set[str] = set()

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, [*TASK, *more], registry=self.registry)

        self.sent = counter("celery_task_sent", "Runs that workers got, by a message or straight from the ledger.")
        self.received = counter("celery_task_received", "Runs that the worker received.")
        self.started = counter("celery_task_started", "Tasks that a slot started.")
        self.succeeded = counter("celery_task_succeeded", "Tasks that succeeded.")
        self.failed = counter("celery_task_failed", "Tasks that failed for good.", "exception")
        self.retried = counter("celery_task_retried", "Attempts that ended with a retry.")
        self.rejected = counter("celery_task_rejected", "Messages that a task rejected.")
        self.revoked = counter("celery_task_revoked", "Tasks that were stopped, or found to be revoked.")
        self.lost = counter("pressroom_task_lost", "Attempts that ended without a verdict; their runs are due again.")
        self.dropped = counter("pressroom_task_dropped", "Messages whose run was finished or running elsewhere.")
        declared = declared_queues()
        consumed = [declared[name] for name in queues if name in declared] or list(declared.values())

        def histogram(name: str, text: str, buckets: list[float]) -> Histogram:
            return Histogram(name, text, TASK, buckets=buckets, registry=self.registry)

        self.runtime = histogram("celery_task_runtime", "Run time in seconds.", runtime_buckets(consumed))
        self.wait = histogram("celery_task_queue_wait_time", "Seconds between due and started.", wait_buckets(consumed))

    def task(self, name: str, queue: str | None) -> tuple[str, str, str]:
        """Return the labels of a task."""
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
        """Return a server that listens on the port; the caller starts serving. Raises OSError if the port is taken."""
        server = MetricsServer(port, metrics_of(self.registry))
        logger.info("metrics on port %s", server.port)
        return server


class RelayMetrics(Metrics):
    """The metrics of the relay."""

    def __init__(self, hostname: str) -> None:
        super().__init__(hostname)
        self.refused = Counter(
            "pressroom_relay_refused", "Pushes that Redis has refused.", ["queue_name"], registry=self.registry
        )
        self.is_refused = Gauge(
            "pressroom_queue_refused", "1 while Redis refuses messages for the queue.", ["queue_name"],
            registry=self.registry,
        )  # fmt: skip
        self.errors = Counter(
            "pressroom_relay_errors",
            "Rounds of the relay that failed with an error of the relay.",
            registry=self.registry,
        )
        for queue in declared_queues():
            self.refused.labels(queue)
            self.is_refused.labels(queue)


class WorkerMetrics(Metrics):
    """The metrics of a worker."""

    current: WorkerMetrics | None = None
    """The metrics of this process; None if it serves no metrics."""

    def __init__(self, hostname: str, queues: Iterable[str]) -> None:
        super().__init__(hostname, queues)
        self.registry.register(Active(self.hostname))
        ProcessCollector(registry=self.registry)
        self._seen: set[tuple[str, str, str]] = set()

    def task(self, name: str, queue: str | None) -> tuple[str, str, str]:
        """Return the labels of a task. Its counters exist from the first call on, as celery-exporter's do.

        A query that adds two counters has no answer while one does not exist, such as that of a queue whose tasks all
        fail, and a counter that begins with 1 shows no increase.
        """
        labels = super().task(name, queue)
        if labels not in self._seen:
            self._seen.add(labels)
            for counter in (self.received, self.started, self.succeeded, self.retried, self.rejected, self.revoked):
                counter.labels(*labels)
            self.failed.labels(*labels, "")
        return labels


def exception_name(error: Any) -> str:
    """Return the class name of what a child raised, even if the exception could not be pickled."""
    error = getattr(error, "exc", None) or error
    return str(getattr(error, "exc_cls_name", None) or type(error).__name__)
