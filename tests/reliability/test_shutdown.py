"""SIGTERM, one rule for every pool and moment: stop taking work, let it end, kill it after the grace, release it."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from pressroom.models import Status, TaskRun
from pressroom.models import Worker as WorkerRow
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_what_outlasts_the_grace_is_released_where_it_cannot_be_killed(
    stack: Stack, effects: str, gate: Path, pool: str
) -> None:
    """The process goes first: nobody else runs it while it still does."""
    stack.relay()
    worker = stack.worker(f"--pool={pool}", "--concurrency=4", TASKRUNS_GRACE="1")
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: noted(effects), "it runs")
    assert worker.stop() == 0

    run = TaskRun.of(result)
    assert (run.status, run.attempt, run.losses) == (Status.QUEUED, 0, 0)
    left = WorkerRow.objects.get().dead_at
    assert left is not None
    assert run.run_at > left
    gate.touch()
    stack.worker()
    until(done, "it is done by another worker")
    assert TaskRun.of(result).attempt == 1


def test_sigterm_to_the_whole_group_lets_a_task_end(stack: Stack, effects: str, gate: Path) -> None:
    """As a shell or an init that passes it on to all does (airflow#18066)."""
    stack.relay()
    worker = stack.worker()
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: noted(effects), "it runs")
    os.killpg(worker.pid, signal.SIGTERM)
    worker.wait_for("Warm shutdown")
    gate.touch()

    assert worker.popen.wait(timeout=120) == 0
    assert (TaskRun.of(result).status, TaskRun.of(result).attempt) == (Status.SUCCEEDED, 1)


def test_sigterm_at_any_moment_counts_no_attempt_and_loses_nothing(stack: Stack, effects: str) -> None:
    """Workers that come and go under load, with hardly any grace."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    results = [tasks.bystander.delay(effects, str(number), 0.2) for number in range(60)]
    stack.relay()
    for _ in range(4):
        worker = stack.worker(TASKRUNS_GRACE="0.1")
        enough = len(noted(effects)) + moments.randrange(1, 12)
        until(lambda enough=enough: len(noted(effects)) >= enough, "it has begun some")  # type: ignore[misc]
        assert worker.stop() == 0
    stack.worker()
    until(done, "all are done")

    runs = [TaskRun.of(result) for result in results]
    assert {run.status for run in runs} == {Status.SUCCEEDED}
    assert {(run.attempt, run.losses) for run in runs} == {(1, 0)}
    assert set(Counter(line for line in noted(effects) if "ended" in line).values()) == {1}


def test_who_runs_nothing_ends_though_its_loop_hangs(stack: Stack) -> None:
    """And not after its grace, which is half an hour for reports."""
    worker = stack.worker("--include=tests.support.probes.hanging", TASKRUNS_GRACE="1000")
    worker.wait_for("the loop hangs")
    began = time.monotonic()
    worker.popen.send_signal(signal.SIGTERM)
    assert worker.popen.wait(timeout=150) == 0
    assert time.monotonic() - began < 100
    assert WorkerRow.objects.get().dead_at is not None
