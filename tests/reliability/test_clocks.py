"""A process whose clock is an hour ahead changes nothing: all times are the database's."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from celery.exceptions import TaskRevokedError
from django.utils import timezone

from pressroom.models import Status, TaskRun
from pressroom.models import Worker as WorkerRow
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


@pytest.mark.parametrize("ahead", ["worker", "relay"])
def test_an_hour_ahead(stack: Stack, effects: str, gate: Path, ahead: str) -> None:
    wrong = ",tests.support.probes.ahead" if ahead == "worker" else ""
    worker = stack.worker("--concurrency=2", include=f"tests.support.probes.tasks{wrong}")
    with_wrong_clock = tasks.now.apply_async(expires=1800)
    expired = tasks.effect.apply_async([effects, "never"], expires=0.1)
    until(lambda: TaskRun.of(expired).expires_at < timezone.now(), "its expiry")
    stack.start(
        [sys.executable, "-m", "tests.support.probes.ahead" if ahead == "relay" else "manage", "relay"], "relay: ready"
    )
    # Its clock is wrong, and half an hour is not over.
    offset = with_wrong_clock.get(timeout=60) - time.time()
    assert (3_000 < offset < 3_700) if ahead == "worker" else abs(offset) < 60

    long = tasks.hold.delay(effects, "long", str(gate))
    later = tasks.effect.apply_async([effects, "later"], countdown=4, expires=1800)
    retried = tasks.retry_by_hand.delay(f"{effects}.retries", 2)
    assert later.get(timeout=60) == "later"
    assert retried.get(timeout=60) == 2
    with pytest.raises(TaskRevokedError):
        expired.get(timeout=60)
    # Longer than the silence after which a worker counts as dead, told by its own heartbeats.
    first = WorkerRow.objects.get().heartbeat_at
    until(lambda: (WorkerRow.objects.get().heartbeat_at - first).total_seconds() > 8, "16 heartbeats")
    gate.touch()
    until(done, "all is done")

    run = TaskRun.of(later)
    assert run.created_at + timezone.timedelta(seconds=4) <= run.run_at <= run.started_at <= timezone.now()
    assert (TaskRun.of(long).status, TaskRun.of(long).attempt) == (Status.SUCCEEDED, 1)
    assert WorkerRow.objects.get().dead_at is None
    assert [line for line in noted(effects) if not line.startswith("long")] == ["later"]
    assert worker.popen.poll() is None
