"""What celery-exporter's own program tells of some tasks, and what ours tells of the same ones.

celery-exporter is not on PyPI. What it told is recorded in ``tests/support/celery_exporter.json``. To record it anew,
set CELERY_EXPORTER to a checkout of it whose packages are installed: its program then runs beside ours.

What differs is asserted too; docs/metrics.md says why.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from django.conf import settings
from django.db import transaction
from prometheus_client.parser import text_string_to_metric_families

from app.local.servers import free_port
from app.queues import BY_NAME
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import ROOT, Stack
from tests.support.waiting import until

RECORD = ROOT / "tests" / "support" / "celery_exporter.json"
PROGRAM = os.environ.get("CELERY_EXPORTER")
VERSION = "0.12.2 and the histogram of waits: commit 95e8e492f0cb300247432d664ea9732bfdf57ad7 of 21 August 2026"
"""https://github.com/danihodovic/celery-exporter, of which the record is."""
HOST = ("hostname", "celery@host")
"""In the record, in place of the worker's own."""
EVENTS = {"CELERY_SEND_EVENTS": "1"}
SUCCEED, FAIL, RETRY, REJECT = 100, 8, 8, 2
SLOTS = 2
QUEUES = ("default", "emails")
RUNS = ("sent", "received", "started", "succeeded", "failed", "retried", "rejected", "revoked")

Labels = frozenset[tuple[str, str]]
Series = dict[str, dict[Labels, float]]
"""By the name of a sample and its labels, with the names of these."""


def series(ports: Iterable[int]) -> Series:
    """What begins with ``celery_``, of these processes, added up as Prometheus' ``sum`` does."""
    found: Series = {}
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        for sample in (sample for family in families for sample in family.samples):
            if sample.name.startswith("celery_"):
                one = found.setdefault(sample.name, {})
                labels = frozenset(sample.labels.items())
                one[labels] = one.get(labels, 0) + sample.value
    return found


def without_host(found: Series) -> Series:
    """The same, whatever the worker is called."""
    return {
        name: {
            frozenset(HOST if pair[0] == HOST[0] and pair[1] else pair for pair in labels): value
            for labels, value in of_name.items()
        }
        for name, of_name in found.items()
    }


def recorded() -> dict[str, Series]:
    """What celery-exporter told: ``gauges`` while all slots were held, and ``counters`` at the end."""
    return {
        moment: {
            name: {frozenset((key, text) for key, text in labels): value for labels, value in of_name}
            for name, of_name in found.items()
        }
        for moment, found in json.loads(RECORD.read_text())["told"].items()
    }  # fmt: skip


def record(told: dict[str, Series]) -> None:
    """Write what celery-exporter told, with 0 for moments and durations, which differ each time."""
    differ = ("_sum", "_bucket", "_timestamp", "_created")
    kept = {
        moment: {
            name: sorted(
                [sorted(map(list, labels)), 0 if name.endswith(differ) else value] for labels, value in of_name.items()
            )
            for name, of_name in sorted(found.items())
        }
        for moment, found in told.items()
    }
    RECORD.write_text(json.dumps({"version": VERSION, "told": kept}, separators=(",", ":")) + "\n")


def of_queues(found: dict[Labels, float]) -> dict[str, float]:
    """A gauge of queues, by the queue."""
    return {dict(labels)["queue_name"]: value for labels, value in found.items()}


def by_task(found: dict[Labels, float]) -> dict[str, float]:
    """Added up for each task."""
    added: dict[str, float] = {}
    for labels, value in found.items():
        name = dict(labels)["name"]
        added[name] = added.get(name, 0) + value
    return added


def edges(found: dict[Labels, float]) -> set[float]:
    return {float(dict(labels)["le"]) for labels in found}


def compare_gauges(theirs: Series, ours: Series) -> None:
    """While every slot is held, and more waits than the relay publishes."""
    for name in ("celery_worker_up", "celery_worker_tasks_active"):
        assert theirs[name] == ours[name], name
    for name in ("celery_active_worker_count", "celery_active_process_count"):
        of_ours = of_queues(ours[name])
        assert of_queues(theirs[name]) == {queue: of_ours[queue] for queue in QUEUES}, name
        # Ours tells of declared queues without a worker, too.
        assert {queue: value for queue, value in of_ours.items() if queue not in QUEUES} == {"reports": 0, "bulk": 0}
    # Theirs is the length of the list in Redis, which is no longer than the window. Ours counts what is due.
    assert of_queues(theirs["celery_queue_length"]) == {"default": 20 * SLOTS, "emails": FAIL + RETRY}
    length = of_queues(ours["celery_queue_length"])
    assert length == {"default": SUCCEED + REJECT, "emails": FAIL + RETRY, "reports": 0, "bulk": 0}


def compare_counters(theirs: Series, ours: Series) -> None:
    made_then = {name for name in theirs if name.endswith("_created")}
    assert ours.keys() == theirs.keys() - made_then, "ours does not tell when a counter was made"
    for what in RUNS:
        name = f"celery_task_{what}_total"
        their, our = dict(theirs[name]), dict(ours[name])
        if what == "rejected":
            # Celery sends that event of messages alone that it acknowledges late.
            assert by_task(our).pop("probe.reject") == REJECT
            assert set(by_task(their).values()) == {0}
            our = dict.fromkeys(our, 0)
        if what == "failed":
            # Theirs reads the class from the error's text, and `Reject` has another.
            reject = {"name": "probe.reject", "queue_name": "default"}
            rename = {key: frozenset((dict(key) | {"exception": "Reject"}).items()) for key in their
                      if dict(key) == dict(key) | reject | {"exception": "UnknownException"}}  # fmt: skip
            assert len(rename) == 1
            their = {rename.get(key, key): value for key, value in their.items()}
        assert their == our, name
    # What the sums count is what was called.
    counted = {what: sum(ours[f"celery_task_{what}_total"].values()) for what in RUNS}
    runs = SLOTS + SUCCEED + FAIL + 2 * RETRY + REJECT
    assert counted == {
        "sent": runs, "received": runs, "started": runs, "succeeded": SLOTS - 1 + SUCCEED + RETRY,
        "failed": FAIL + REJECT, "retried": RETRY, "rejected": REJECT, "revoked": 1,
    }  # fmt: skip


def compare_histograms(theirs: Series, ours: Series) -> None:
    assert theirs["celery_task_runtime_count"] == ours["celery_task_runtime_count"]
    waits = "celery_task_queue_wait_time"
    assert theirs[f"{waits}_count"] == ours[f"{waits}_count"]
    if PROGRAM:
        assert theirs["celery_task_runtime_sum"] == pytest.approx(ours["celery_task_runtime_sum"])
        # Theirs waits since the relay has published the message, ours since the run was due.
        their_waits, our_waits = by_task(theirs[f"{waits}_sum"]), by_task(ours[f"{waits}_sum"])
        assert their_waits["probe.effect"] < our_waits["probe.effect"], "what did not fit the window waited longer"
    # The edges of ours are the limits of the queues.
    for name in ("celery_task_runtime_bucket", f"{waits}_bucket"):
        without_edges = [
            {frozenset(pair for pair in key if pair[0] != "le") for key in found[name]} for found in (theirs, ours)
        ]
        assert without_edges[0] == without_edges[1], name
    limit = BY_NAME["default"].time_limit
    assert limit in edges(ours["celery_task_runtime_bucket"]) - edges(theirs["celery_task_runtime_bucket"])
    assert BY_NAME["default"].max_wait * 10 in edges(ours[f"{waits}_bucket"])


def test_it_tells_of_the_same_tasks_what_ours_tells(stack: Stack, effects: str, gate: Path) -> None:
    port, *our_ports = (free_port() for _ in range(4))
    relay_port, worker_port, exporter_port = map(str, our_ports)
    if PROGRAM:
        stack.start(
            [sys.executable, "cli.py"], "Started celery-exporter", Path(PROGRAM),
            CE_BROKER_URL=settings.CELERY_BROKER_URL, CE_HOST="127.0.0.1", CE_PORT=str(port),
        )  # fmt: skip
    stack.relay(METRICS_PORT=relay_port, **EVENTS)
    stack.start([sys.executable, "manage.py", "exporter", "--port", exporter_port], "exporter: ready")
    stack.worker(f"--concurrency={SLOTS}", "-Q", ",".join(QUEUES), METRICS_PORT=worker_port, **EVENTS)

    def both_tell(is_so: Callable[[Series], bool]) -> tuple[Series, Series] | None:
        ours = without_host(series(our_ports))
        theirs = without_host(series([port])) if PROGRAM else ours
        return (theirs, ours) if is_so(theirs) and is_so(ours) else None

    # While every slot is held: the gauges.
    held = [tasks.hold.delay(effects, str(slot), str(gate)) for slot in range(SLOTS)]
    until(lambda: len(tasks.noted(effects)) == SLOTS, "the slots are held")
    with transaction.atomic():
        for number in range(SUCCEED):
            tasks.effect.delay(effects, str(number))
        for _ in range(FAIL):
            tasks.fail.apply_async(["gone"], queue="emails")
        for _ in range(RETRY):
            tasks.retry_by_hand.apply_async([effects, 1], queue="emails")
        for _ in range(REJECT):
            tasks.reject.delay()

    def all_are_told(found: Series) -> bool:
        # The relay fills its window, and waits.
        published = SLOTS + 20 * SLOTS + FAIL + RETRY
        sent = sum(found.get("celery_task_sent_total", {}).values())
        return sent == published and SLOTS in found.get("celery_worker_tasks_active", {}).values()

    told = {}
    told["gauges"], gauges = until(lambda: both_tell(all_are_told), "the window is full, a heartbeat tells what runs")
    # After the end: the counters.
    held[0].revoke(terminate=True)
    until(lambda: sum(series(our_ports)["celery_task_revoked_total"].values()) == 1, "it is revoked")
    gate.touch()
    until(done, "all tasks end")

    def all_are_counted(found: Series) -> bool:
        ends = [sum(found[f"celery_task_{end}_total"].values()) for end in ("succeeded", "failed", "revoked")]
        return sum(ends) == SLOTS + SUCCEED + FAIL + RETRY + REJECT

    told["counters"], counters = until(lambda: both_tell(all_are_counted), "all ends are counted")
    if PROGRAM:
        record(told)
    else:
        told = recorded()
    compare_gauges(told["gauges"], gauges)
    compare_counters(told["counters"], counters)
    compare_histograms(told["counters"], counters)
