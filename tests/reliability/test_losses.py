"""What goes wrong, done for real; and the proof that each guard is what prevents it."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery.exceptions import TaskRevokedError
from django.db import transaction
from django.utils import timezone

from pressroom import operator_actions
from pressroom.conf import WINDOW_LEAST
from pressroom.models import Outage, Status, TaskRun
from pressroom.models import Worker as WorkerRow
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


def starts(effects: str) -> list[str]:
    return [line for line in tasks.noted(effects) if "started" in line]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_flushall_with_200_tasks_queued(stack: Stack, effects: str, redis_server: Any) -> None:
    with transaction.atomic():
        for number in range(200):
            tasks.effect.delay(effects, str(number))
    stack.relay()
    until(lambda: TaskRun.objects.filter(published_at__isnull=False).count() >= WINDOW_LEAST, "a window is in Redis")
    redis_server.client().flushall()
    stack.worker()
    until(done, "all 200 done")

    assert Counter(tasks.noted(effects)) == Counter(map(str, range(200)))


def test_a_killed_workers_task_runs_again(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    worker = stack.worker()
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: starts(effects), "the task has started")
    worker.kill()
    stack.worker()
    until(lambda: len(starts(effects)) == 2, "it has started again", timeout=60)
    gate.touch()
    until(done, "it is done")

    run = TaskRun.of(result)
    assert (run.status, run.attempt, run.losses) == (Status.SUCCEEDED, 2, 1)
    assert run.attempts.get().outcome == "lost"
    assert tasks.noted(effects).count("job ended") == 1


def test_a_killed_child_costs_its_own_task_an_attempt_and_no_other(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    stack.worker("--concurrency=2")
    victim = tasks.hold.delay(effects, "victim", str(gate))
    bystander = tasks.hold.delay(effects, "bystander", str(gate))
    until(lambda: len(starts(effects)) == 2, "both run")
    child = next(int(line.split()[2]) for line in starts(effects) if line.startswith("victim"))
    os.kill(child, signal.SIGKILL)
    until(lambda: len(starts(effects)) == 3, "the victim runs again")
    gate.touch()
    until(done, "both are done")

    assert (TaskRun.of(victim).attempt, TaskRun.of(victim).losses) == (2, 1)
    assert (TaskRun.of(bystander).attempt, TaskRun.of(bystander).losses) == (1, 0)


def test_a_main_process_that_dies_alone_takes_its_children_with_it(stack: Stack, effects: str, gate: Path) -> None:
    """They would go on with what is given to others."""
    stack.relay()
    worker = stack.worker()
    tasks.hold.delay(effects, "job", str(gate))
    until(lambda: starts(effects), "it runs")
    children = worker.children()
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not any(map(alive, children)), "they are gone")
    gate.touch()
    stack.worker()
    until(done, "it is done by another")

    assert tasks.noted(effects).count("job ended") == 1


def test_a_task_that_kills_whoever_runs_it_is_a_dead_letter(stack: Stack, effects: str) -> None:
    stack.relay()
    stack.worker()
    result = tasks.suicide.delay(effects)
    until(done, "it is given up")

    run = TaskRun.of(result)
    assert (run.status, run.losses, run.error_type) == (Status.DEAD, 5, "WorkerLostError")
    assert tasks.noted(effects) == ["once more"] * 5


def test_redis_away_at_the_call_and_back_later(stack: Stack, effects: str, redis_server: Any) -> None:
    relay = stack.relay()
    stack.worker()
    redis_server.stop()
    result = tasks.effect.delay(effects, "kept")
    relay.wait_for("Redis is away")
    assert TaskRun.of(result).status == Status.QUEUED
    until(Outage.objects.filter(service="redis").exists, "the operations pages say so")
    redis_server.start()

    assert result.get(timeout=120) == "kept"
    until(lambda: not Outage.objects.exists(), "they do not any more")
    assert tasks.noted(effects) == ["kept"]


def test_a_message_that_arrives_twice_runs_once(stack: Stack, effects: str, redis_server: Any) -> None:
    stack.relay()
    result = tasks.effect.delay(effects, "once")
    client = redis_server.client()
    message = until(lambda: client.lindex("default", 0), "the message is in its list")
    client.lpush("default", message, message)
    worker = stack.worker("--concurrency=1")
    worker.wait_for("dropped")

    assert result.get(timeout=60) == "once"
    until(lambda: client.llen("default") == 0 and worker.output().count("dropped") == 2, "both copies are dropped")
    assert tasks.noted(effects) == ["once"]


def test_a_message_that_comes_back_after_its_task_has_replaced_itself_is_dropped(
    stack: Stack, effects: str, redis_server: Any
) -> None:
    """As after a failover to a replica that lags: the run is live, but it is another call by now."""
    relay = stack.relay()
    result = tasks.step.delay(effects, 1)
    client = redis_server.client()
    message = until(lambda: client.lindex("default", 0), "the message is in its list")
    relay.stop()
    worker = stack.worker("--concurrency=1")
    until(lambda: TaskRun.of(result).arguments == ([effects, 0], {}), "it has replaced itself")
    client.lpush("default", message)
    worker.wait_for("dropped")
    stack.relay()
    until(done, "it is done")

    assert tasks.noted(effects) == ["1 to go", "0 to go"]


def test_a_long_task_of_a_live_worker_is_left_alone(stack: Stack, effects: str, gate: Path) -> None:
    """The heartbeat's test: see `test_without_a_heartbeat_...` for the same with it switched off."""
    stack.relay()
    stack.worker()
    tasks.hold.delay(effects, "long", str(gate))
    until(lambda: starts(effects), "it runs")
    # Twice the silence after which a worker counts as dead, told by the worker's own heartbeats.
    first = WorkerRow.objects.get().heartbeat_at
    until(lambda: (WorkerRow.objects.get().heartbeat_at - first).total_seconds() > 10, "20 heartbeats")
    assert WorkerRow.objects.get().dead_at is None
    gate.touch()
    until(done, "it is done")

    assert len(starts(effects)) == 1


def test_sigterm_lets_a_task_end(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    worker = stack.worker()
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: starts(effects), "it runs")
    worker.popen.terminate()
    worker.wait_for("Warm shutdown")
    gate.touch()

    assert worker.popen.wait(timeout=120) == 0
    assert TaskRun.of(result).status == Status.SUCCEEDED
    assert WorkerRow.objects.get().dead_at is not None


def test_what_outlasts_the_grace_period_is_killed_and_released(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    worker = stack.worker(TASKRUNS_GRACE="1")
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: starts(effects), "it runs")
    child = int(starts(effects)[0].split()[2])

    assert worker.stop() == 0
    until(lambda: not alive(child), "the child is gone")
    run = TaskRun.of(result)
    assert (run.status, run.attempt, run.losses) == (Status.QUEUED, 0, 0)
    gate.touch()
    stack.worker()
    until(done, "it is done by another worker")
    assert TaskRun.of(result).attempt == 1


def test_a_worker_declared_dead_kills_its_children_and_goes_on(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    worker = stack.worker()
    result = tasks.hold.delay(effects, "job", str(gate))
    until(lambda: starts(effects), "it runs")
    child = int(starts(effects)[0].split()[2])
    WorkerRow.objects.update(dead_at=timezone.now())
    worker.wait_for("declared dead")
    until(lambda: not alive(child), "its child is gone")
    until(lambda: len(starts(effects)) == 2, "the task runs again, on the same worker's new identity")
    gate.touch()
    until(done, "it is done")

    assert TaskRun.of(result).attempt == 2
    assert tasks.noted(effects).count("job ended") == 1


# ---- Each guard switched off: what it prevents happens ---------------------------------------------------------------


def test_without_a_heartbeat_a_live_workers_task_is_given_to_another(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    stack.worker(include="tests.support.probes.tasks,tests.support.probes.without_heartbeat")
    tasks.hold.delay(effects, "long", str(gate))
    until(lambda: starts(effects), "it runs")
    until(lambda: WorkerRow.objects.filter(dead_at__isnull=False).exists(), "the worker is declared dead")
    stack.worker()
    until(lambda: len(starts(effects)) == 2, "it runs twice at a time")


def test_without_the_claim_a_second_message_is_a_second_run(
    stack: Stack, effects: str, gate: Path, redis_server: Any
) -> None:
    stack.relay()
    tasks.hold.delay(effects, "twice", str(gate))
    client = redis_server.client()
    message = until(lambda: client.lindex("default", 0), "the message is in its list")
    client.lpush("default", message)
    stack.worker("--concurrency=2", include="tests.support.probes.tasks,tests.support.probes.without_claim")
    # Both run at once: a run that has ended is no longer in the table of live ones.
    until(lambda: len(starts(effects)) == 2, "it ran twice")
    gate.touch()


def test_without_the_reconciler_what_is_lost_stays_lost(
    stack: Stack, effects: str, gate: Path, redis_server: Any
) -> None:
    stack.start([sys.executable, "-m", "tests.support.probes.relay_without_reconciler"], "relay: ready")
    worker = stack.worker()
    with_its_worker = tasks.hold.delay(effects, "lost", str(gate))
    until(lambda: starts(effects), "it runs")
    worker.kill()
    with_redis = tasks.effect.delay(effects, "lost")
    until(lambda: redis_server.client().llen("default"), "it is in Redis")
    redis_server.client().flushall()
    stack.worker()
    # Thrice the time after which the reconciler would have acted, told by the new worker's heartbeats.
    newest = WorkerRow.objects.latest("id")
    until(lambda: (WorkerRow.objects.get(pk=newest.pk).heartbeat_at - newest.started_at).total_seconds() > 15, "15 s")
    assert TaskRun.of(with_its_worker).status == Status.RUNNING
    assert TaskRun.of(with_redis).status == Status.QUEUED
    assert tasks.noted(effects) == starts(effects)


def test_a_running_task_is_cancelled(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    stack.worker()
    result = tasks.hold.delay(effects, "job", str(gate))
    bystander = tasks.hold.delay(effects, "bystander", str(gate))
    until(lambda: len(starts(effects)) == 2, "both run")
    child = next(int(line.split()[2]) for line in starts(effects) if line.startswith("job"))
    operator_actions.run_cancel(run=TaskRun.of(result), user=None)
    until(lambda: TaskRun.of(result).status == Status.CANCELLED, "it is cancelled")
    until(lambda: not alive(child), "its process is gone")
    gate.touch()
    until(done, "the other is done")

    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    assert (TaskRun.of(bystander).status, TaskRun.of(bystander).attempt) == (Status.SUCCEEDED, 1)
    assert "job ended" not in tasks.noted(effects)
