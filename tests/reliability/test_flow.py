"""Flow control with a real relay and worker."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from pressroom import operator_actions
from pressroom.models import Pause, Status, TaskRun
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

LATEST = timedelta(seconds=1)
"""After the pause, for a run to begin."""
SOON = timedelta(seconds=10)
"""After the resume, for the first run to begin: at once, and this much later on a machine that is busy."""


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "probe.effect")])
def test_a_pause_under_load(stack: Stack, effects: str, kind: str, name: str) -> None:
    stack.relay()
    stack.worker()
    stopping = threading.Event()

    def load() -> None:
        number = 0
        while not stopping.wait(0.005):
            tasks.effect.delay(effects, str(number))
            number += 1
        connection.close()

    caller = threading.Thread(target=load)
    caller.start()
    succeeded = TaskRun.objects.filter(name="probe.effect", status=Status.SUCCEEDED)
    until(lambda: succeeded.count() > 50, "the load runs")
    since = operator_actions.pause(kind=kind, name=name, user=None).since
    called = TaskRun.objects.filter(created_at__gt=since + 3 * LATEST)
    until(lambda: called.count() > 50, "some were called long after the pause")
    if kind == "task":
        other = tasks.insert.delay(f"{effects}.other", "x")
        other.get(timeout=60)
    stopping.set()
    caller.join()
    assert not TaskRun.objects.filter(name="probe.effect", started_at__gt=since + LATEST).exists()
    assert not TaskRun.objects.filter(name="probe.effect", status=Status.RUNNING).exists()
    waiting = TaskRun.objects.filter(name="probe.effect", status=Status.QUEUED)
    assert waiting.count() > 50

    operator_actions.resume(kind=kind, name=name, user=None)
    resumed = timezone.now()
    until(done, "all are done")
    first = TaskRun.objects.filter(name="probe.effect", started_at__gt=since + LATEST).earliest("started_at")
    assert first.started_at < resumed + SOON
    runs = TaskRun.objects.filter(name="probe.effect")
    assert sorted(map(int, tasks.noted(effects))) == list(range(runs.count()))
    assert set(runs.values_list("status", "misses", "losses")) == {(Status.SUCCEEDED, 0, 0)}
    assert not Pause.objects.exists()


@pytest.mark.timeout(600)
def test_limits_while_workers_are_killed(stack: Stack, effects: str) -> None:
    """Of no key more runs execute at once than the limit says, by the times of the ledger, and all are done."""
    most, keys, each = 2, 4, 30
    stack.relay()
    workers = [stack.worker("--concurrency=3", f"--hostname=w{number}@%h") for number in range(2)]
    with transaction.atomic():
        for number in range(keys * each):
            tasks.limited_effect.delay(effects, f"key {number % keys}", number)
    ended = TaskRun.objects.filter(name="probe.limited_effect", status=Status.SUCCEEDED)
    for number, worker in enumerate(workers):
        until(lambda number=number: ended.count() > 20 * (number + 1), "some are done")
        worker.kill()
        stack.worker("--concurrency=3", f"--hostname=w{number + 2}@%h")
    until(done, "all are done", timeout=300)
    assert ended.count() == keys * each
    spans = defaultdict(list)
    for run in TaskRun.objects.filter(name="probe.limited_effect"):
        times = [(run.started_at, run.finished_at), *run.attempts.values_list("started_at", "finished_at")]
        spans[run.arguments[0][1]] += times
    assert len(spans) == keys
    for times in spans.values():
        begins = [(start, 1) for start, _ in times]
        ends = [(end, -1) for _, end in times]
        running = 0
        for _, step in sorted([*begins, *ends]):
            running += step
            assert running <= most
        assert len(times) >= each


@pytest.mark.timeout(600)
def test_a_pause_of_a_key_under_load(stack: Stack, effects: str) -> None:
    """Nothing of the key starts from a second after the pause on, its neighbours go on, and nothing is lost."""
    stack.relay()
    stack.worker()
    stopping = threading.Event()
    keys, numbers = ("a", "b"), list[int]()

    def load() -> None:
        while not stopping.wait(0.02):
            for key in keys:
                tasks.limited_effect.delay(effects, key, len(numbers))
                numbers.append(len(numbers))
        connection.close()

    def of(key: str, **which: object) -> list[TaskRun]:
        found = TaskRun.objects.filter(name="probe.limited_effect", **which)
        return [run for run in found if run.arguments[0][1] == key]

    caller = threading.Thread(target=load)
    caller.start()
    until(lambda: len(of("a", status=Status.SUCCEEDED)) > 10, "the load runs")
    since = operator_actions.pause(kind="key", name="probe.limited_effect", key="a", user=None).since
    until(lambda: len(of("b", started_at__gt=since + 3 * LATEST)) > 10, "its neighbour goes on")
    stopping.set()
    caller.join()
    assert not of("a", started_at__gt=since + LATEST)
    assert not of("a", status=Status.RUNNING)
    waiting = len(of("a", status=Status.QUEUED))
    assert waiting > 10

    operator_actions.resume(kind="key", name="probe.limited_effect", key="a", user=None)
    resumed = timezone.now()
    until(done, "all are done", timeout=300)
    assert min(run.started_at for run in of("a", started_at__gt=since + LATEST)) < resumed + SOON
    runs = TaskRun.objects.filter(name="probe.limited_effect")
    assert sorted(map(int, tasks.noted(effects))) == numbers
    assert set(runs.values_list("status", "misses", "losses")) == {(Status.SUCCEEDED, 0, 0)}
