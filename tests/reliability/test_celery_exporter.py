"""celery-exporter's own program beside ours: the same names, labels and values for the same tasks."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app.local.servers import PROJECT, free_port
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

RELEASE = "0.11.2"
"""The newest on PyPI. It asks for Python below 3.13, and runs on it."""
SUCCEED, FAIL, RETRY, MAILS = 60, 15, 15, 10
QUEUES = ("default", "emails")
EVENTS = {"CELERY_SEND_EVENTS": "1"}
COUNTERS = {
    f"celery_task_{name}_total"
    for name in ("received", "started", "succeeded", "failed", "retried", "rejected", "revoked")
}
GAUGES = {
    "celery_worker_up", "celery_worker_tasks_active", "celery_queue_length", "celery_active_worker_count",
    "celery_active_process_count",
}  # fmt: skip

Told = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by a sample's name and its labels."""


@pytest.fixture(scope="module")
def program() -> list[str]:
    """The command of celery-exporter, in an environment of its own."""
    folder = PROJECT / ".tools" / f"celery-exporter-{RELEASE}-python{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [PROJECT / ".tools" / "bin" / "python", "-m", "pip", f"--python={python}", "install", "--quiet"]
        # kombu imports packaging, and does not ask for it.
        wanted = [f"prometheus-exporter-celery=={RELEASE}", "packaging"]
        subprocess.run([*pip, "--ignore-requires-python", "--disable-pip-version-check", *wanted], check=True)
        (folder / "made").touch()
    return [str(python), "-c", "from src.cli import cli; cli()"]


def scrape(port: int) -> list[Sample]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def of(samples: list[Sample], names: set[str]) -> Told:
    """Those of both queues, or of none, that count something.

    celery-exporter has a zero for each task and counter, ours none that never moved. It knows the queues that it was
    told of, ours all that are declared.
    """
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for sample in samples
        if sample.name in names
        and sample.labels.get("queue_name", QUEUES[0]) in QUEUES
        and (sample.value or not sample.name.endswith("_total"))
    }


def labels(samples: list[Sample], prefix: str = "celery_") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for sample in samples:
        if sample.name.startswith(prefix) and not sample.name.endswith("_created"):
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_it_says_what_ours_say(stack: Stack, effects: str, program: list[str], redis_server: Any) -> None:
    theirs_at, worker_at, relay_at, exporter_at = (free_port() for _ in range(4))
    queues = f"--queues={','.join(QUEUES)}"
    stack.relay(METRICS_PORT=str(relay_at), **EVENTS)
    at = [f"--broker-url={redis_server.url}/0", "--host=127.0.0.1", f"--port={theirs_at}", "--retry-interval=1"]
    stack.start([*program, *at, queues], "Started celery-exporter", cwd=stack.folder)
    stack.start([sys.executable, "manage.py", "exporter", f"--port={exporter_at}"], "exporter: ready")

    def theirs() -> list[Sample]:
        return scrape(theirs_at)

    # It hears events once it has heard those of a worker, which then goes.
    first = stack.worker(queues, **EVENTS)
    until(lambda: value(theirs(), "celery_worker_up"), "celery-exporter hears the worker")
    assert first.stop() == 0
    with transaction.atomic():
        for number in range(SUCCEED):
            tasks.effect.delay(effects, str(number))
        for _ in range(FAIL):
            tasks.fail.delay("gone")
        for _ in range(RETRY):
            tasks.retry_by_hand.delay(effects, 1)
        for number in range(MAILS):
            tasks.effect.apply_async([effects, f"mail {number}"], queue="emails")
    # It takes a task's queue from the event of its call, which comes after the message.
    calls = SUCCEED + FAIL + RETRY + MAILS
    until(lambda: value(theirs(), "celery_task_sent_total") == calls, "it has heard of each call")
    waiting = {"celery_queue_length"}
    agree(lambda: of(theirs(), waiting), lambda: of(scrape(exporter_at), waiting), "lengths of the queues")
    assert sorted(of(theirs(), waiting).values()) == [MAILS, calls - MAILS]

    stack.worker(queues, METRICS_PORT=str(worker_at), **EVENTS)
    until(done, "all tasks end")

    def ours() -> list[Sample]:
        return scrape(worker_at) + scrape(exporter_at)

    agree(lambda: of(theirs(), COUNTERS), lambda: of(ours(), COUNTERS), "counters")
    agree(lambda: of(theirs(), GAUGES), lambda: of(ours(), GAUGES), "gauges")

    there, here = theirs(), ours() + scrape(relay_at)
    ended = SUCCEED + RETRY + MAILS
    expected = {
        "celery_task_sent_total": calls + RETRY, "celery_task_succeeded_total": ended,
        "celery_task_failed_total": FAIL, "celery_task_retried_total": RETRY, "celery_task_runtime_count": ended,
    }  # fmt: skip
    for samples in (there, here):
        assert {name: value(samples, name) for name in expected} == expected
    # Each of its names is one of ours, with the same labels.
    own = labels(here)
    assert {name: names for name, names in labels(there).items() if own.get(name) != names} == {}


def value(samples: list[Sample], name: str) -> float:
    return sum(sample.value for sample in samples if sample.name == name)


def agree(theirs: Callable[[], Told], ours: Callable[[], Told], what: str) -> None:
    """Wait until both tell the same. Events and the last child's word take a moment."""

    def same() -> bool:
        return bool(ours()) and theirs() == ours()

    try:
        until(same, f"the {what} agree")
    except AssertionError:
        there, here = theirs(), ours()
        names = sorted(there.keys() | here.keys(), key=str)
        differ = {str(name): (there.get(name), here.get(name)) for name in names if there.get(name) != here.get(name)}
        raise AssertionError(f"{what}, theirs and ours: {differ}") from None
