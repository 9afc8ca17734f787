"""Flow control with a real relay and worker."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection

from pressroom import operator_actions
from pressroom.models import Pause, Status, TaskRun
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

LATEST = timedelta(seconds=1)
"""After the pause, for a run to begin."""


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
        other = tasks.insert.delay("nowhere", "x")
        other.get(timeout=60)
    stopping.set()
    caller.join()
    assert not TaskRun.objects.filter(name="probe.effect", started_at__gt=since + LATEST).exists()
    assert not TaskRun.objects.filter(name="probe.effect", status=Status.RUNNING).exists()
    waiting = TaskRun.objects.filter(name="probe.effect", status=Status.QUEUED)
    assert waiting.count() > 50

    operator_actions.resume(kind=kind, name=name, user=None)
    until(done, "all are done")
    runs = TaskRun.objects.filter(name="probe.effect")
    assert sorted(map(int, tasks.noted(effects))) == list(range(runs.count()))
    assert set(runs.values_list("status", "misses", "losses")) == {(Status.SUCCEEDED, 0, 0)}
    assert not Pause.objects.exists()
