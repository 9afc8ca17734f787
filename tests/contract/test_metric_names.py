"""Dashboards and alerts made for celery-exporter work on ours: names, types and labels, and what is absent and why."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.queues import QUEUES
from pressroom.monitoring.counters import MOST_EXCEPTIONS, Metrics, WorkerMetrics, runtime_buckets, wait_buckets
from pressroom.monitoring.exporter import _of_ledger
from pressroom.monitoring.queue_stats import Ledger, PauseFigures, QueueFigures
from pressroom.queues import LONGEST_TIME_LIMIT, Queue

TASK = {"name", "hostname", "queue_name"}
CELERY_EXPORTER = {
    "celery_task_sent": ("counter", TASK),
    "celery_task_received": ("counter", TASK),
    "celery_task_started": ("counter", TASK),
    "celery_task_succeeded": ("counter", TASK),
    "celery_task_failed": ("counter", TASK | {"exception"}),
    "celery_task_rejected": ("counter", TASK),
    "celery_task_revoked": ("counter", TASK),
    "celery_task_retried": ("counter", TASK),
    "celery_worker_up": ("gauge", {"hostname"}),
    "celery_worker_tasks_active": ("gauge", {"hostname"}),
    "celery_task_runtime": ("histogram", TASK),
    "celery_task_queue_wait_time": ("histogram", TASK),
    "celery_queue_length": ("gauge", {"queue_name"}),
    "celery_active_consumer_count": ("gauge", {"queue_name"}),
    "celery_active_worker_count": ("gauge", {"queue_name"}),
    "celery_active_process_count": ("gauge", {"queue_name"}),
}
"""https://github.com/danihodovic/celery-exporter, README and src/exporter.py; the wait is of its pull request 386.

`tests/reliability/test_celery_exporter.py` compares with what its program told.
"""

ABSENT = {"celery_active_consumer_count": "it is told for RabbitMQ alone, as there: Redis knows of no consumers"}


def ours() -> dict[str, tuple[str, set[str]]]:
    """Of a worker that has seen one task, and of the exporter."""
    worker = WorkerMetrics("emails@host", ["emails"])
    task = worker.task("probe.effect", "emails")
    for counter in ("sent", "received", "started", "succeeded", "retried", "rejected", "revoked"):
        getattr(worker, counter).labels(*task).inc()
    worker.count_failure(task, "KeyError")
    worker.runtime.labels(*task).observe(1)
    worker.wait.labels(*task).observe(1)
    queue = QueueFigures(1, 1, 1, 1, 1, 1, 1, 1.0, 1.0, 1.0, 1.0, 1, 1)
    ledger = Ledger(
        {"emails": queue},
        [PauseFigures("queue", "emails", "anna", 1.0)],
        {"emails@host": True},
        {"relay": 1.0},
        {"prune": 0.0},
        0,
        0,
        1,
        100,
    )
    return {family.name: (family.type, _labels(family)) for family in [*worker.registry.collect(), *_of_ledger(ledger)]}


def _labels(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels if label != "le"}


@pytest.mark.parametrize("name", CELERY_EXPORTER)
def test_it_is_there_with_the_same_type_and_labels(name: str) -> None:
    if name in ABSENT:
        assert name not in ours()
    else:
        assert ours()[name] == CELERY_EXPORTER[name]


def test_what_is_new_has_a_name_of_its_own() -> None:
    more = {name for name in ours() if name.startswith("celery_")} - CELERY_EXPORTER.keys()
    assert more == set()


def test_host_and_queue_are_told_as_there() -> None:
    assert Metrics("emails@worker-emails-7d4b").task("t", "emails") == ("t", "worker-emails-7d4b", "emails")
    assert Metrics("emails@host").task("t", "made up by a message")[2] == "other"


def test_a_tasks_counters_begin_at_zero_with_its_first_run() -> None:
    """Else a queue whose tasks all fail has no ratio of failures, and a first failure is no increase."""
    worker = WorkerMetrics("w@host", ["emails"])
    worker.received.labels(*worker.task("t", "emails")).inc()
    for name in ("started", "succeeded", "failed", "retried", "rejected", "revoked"):
        assert [sample.value for sample in _samples(worker.registry, f"celery_task_{name}")] == [0], name


def test_classes_of_exceptions_are_bounded() -> None:
    metrics = Metrics("w@host")
    for number in range(MOST_EXCEPTIONS + 20):
        metrics.count_failure(metrics.task("t", "emails"), f"Error{number}")
    metrics.count_failure(metrics.task("t", "emails"), "Error0")
    told = {sample.labels["exception"]: sample.value for sample in _samples(metrics.registry, "celery_task_failed")}
    assert len(told) == MOST_EXCEPTIONS + 1
    assert (told["other"], told["Error0"]) == (20, 2)


def _samples(registry: CollectorRegistry, name: str) -> list[Any]:
    return [
        sample
        for family in registry.collect()
        if family.name == name
        for sample in family.samples
        if sample.name == f"{name}_total"
    ]


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_buckets_fit_the_queues_limits(queue: Queue) -> None:
    hard = queue.time_limit or LONGEST_TIME_LIMIT
    run, wait = runtime_buckets([queue]), wait_buckets([queue])
    assert max(run) == hard, "no run is longer"
    assert queue.soft_time_limit is None or queue.soft_time_limit in run
    assert queue.max_wait in wait, "whether it waited too long is exact"
    assert max(wait) > queue.max_wait
    assert len(run) < 25
    assert len(wait) < 25


def test_a_worker_has_the_buckets_of_the_queues_it_consumes() -> None:
    of_one, of_all = Metrics("w@host", ["emails"]), Metrics("w@host")
    assert set(of_one.runtime._upper_bounds) < set(of_all.runtime._upper_bounds)
    assert set(runtime_buckets(QUEUES)) < set(of_all.runtime._upper_bounds)


def test_the_parser_of_prometheus_reads_it() -> None:
    from pressroom.monitoring.server import metrics_of

    answer = metrics_of(WorkerMetrics("w@host", ["emails"]).registry)("/metrics", "")
    assert answer is not None
    assert list(text_string_to_metric_families(answer[2].decode()))
