"""A ``@task`` of Django's Tasks framework under kills and on every pool, as `test_losses` has it for a Celery task."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import WorkerLostError
from django.contrib.auth.models import Group
from django.db import transaction

from pressroom import operator_actions
from pressroom.django_tasks.framework import TaskResult, TaskResultStatus
from pressroom.models import Status, TaskRun
from tests.support.notes import noted
from tests.support.probes import django_tasks as probes
from tests.support.probes import tasks
from tests.support.processes import Process, Stack
from tests.support.waiting import until

INCLUDE = "tests.support.probes.tasks,tests.support.probes.django_tasks"


def worker(stack: Stack, *arguments: str, **extra: str) -> Process:
    return stack.worker(*arguments, include=INCLUDE, **extra)


def finished(result: TaskResult[Any]) -> TaskResult[Any]:
    def ended() -> bool:
        result.refresh()
        return result.is_finished

    until(ended, "it has ended")
    return result


def begun(path: str) -> list[str]:
    return [line for line in noted(path) if line.startswith("begun")]


def test_a_killed_worker_loses_nothing(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    first = worker(stack)
    result = probes.hold.enqueue(effects, str(gate))
    until(lambda: begun(effects), "it runs")
    result.refresh()
    assert result.status == TaskResultStatus.RUNNING
    first.kill()
    gate.touch()
    worker(stack)
    finished(result)

    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == [2, 2]
    assert (result.attempts, [error.exception_class for error in result.errors]) == (2, [WorkerLostError])
    assert [line.split()[2] for line in begun(effects)] == ["1", "2"]


def test_a_killed_child_loses_nothing(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    worker(stack)
    result = probes.hold.enqueue(effects, str(gate))
    until(lambda: begun(effects), "it runs")
    os.kill(int(begun(effects)[0].split()[1]), signal.SIGKILL)
    gate.touch()

    assert finished(result).return_value == [2, 2]


def test_what_kills_whoever_runs_it_is_a_dead_letter(stack: Stack, effects: str) -> None:
    stack.relay()
    worker(stack)
    result = finished(probes.suicide.enqueue(effects))

    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 5)
    assert {error.exception_class for error in result.errors} == {WorkerLostError}
    assert TaskRun.objects.get(celery_id=result.id).status == Status.DEAD
    assert noted(effects) == ["once more"] * 5


def test_flushed_redis_loses_nothing(stack: Stack, effects: str, redis_server: Any) -> None:
    stack.relay()
    with transaction.atomic():
        calls = [probes.effect.enqueue(effects, str(number)) for number in range(5)]
        plain = tasks.effect.delay(effects, "plain")
    until(lambda: redis_server.client().llen("default") == 6, "all are in Redis, in one list")
    redis_server.client().flushall()
    worker(stack)

    assert [finished(call).return_value for call in calls] == list("01234")
    assert plain.get(timeout=60) == "plain"
    assert sorted(noted(effects)) == ["0", "1", "2", "3", "4", "plain"]


def test_a_running_one_is_cancelled(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    worker(stack)
    result = probes.hold.enqueue(effects, str(gate))
    until(lambda: begun(effects), "it runs")
    operator_actions.run_cancel(run=TaskRun.objects.get(celery_id=result.id), user=None)

    assert finished(result).status == TaskResultStatus.FAILED
    assert result.errors[-1].exception_class.__name__ == "TaskRevokedError"


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_async_and_sync_functions_side_by_side(stack: Stack, pool: str) -> None:
    """Each async function has an event loop and the database, and none disturbs a neighbour in the same thread."""
    stack.relay()
    running = worker(stack, f"--pool={pool}", "--concurrency=20" if pool in ("threads", "gevent") else "-c2")
    with transaction.atomic():
        calls = [probes.count_groups.enqueue(f"of {number}") for number in range(40)]
        others = [probes.give_back.enqueue(number) for number in range(40)]
        bad = probes.leave.enqueue()

    assert not [error.traceback for call in calls for error in finished(call).errors]
    run_ids = {run.celery_id: str(run.pk) for run in TaskRun.objects.all()}
    assert [finished(call).return_value for call in calls] == [[1, run_ids[call.id]] for call in calls]
    assert [finished(call).return_value for call in others] == list(range(40))
    assert finished(bad).errors[0].exception_class is SystemExit
    assert Group.objects.filter(name__startswith="of ").count() == 40
    assert {call.attempts for call in [*calls, *others]} == {1}
    assert "SynchronousOnlyOperation" not in running.output()


def test_the_metrics_and_the_logs_show_the_functions_name(stack: Stack) -> None:
    stack.relay()
    running = worker(stack)
    result = finished(probes.fail.enqueue("gone"))
    assert TaskRun.objects.get(celery_id=result.id).name == "tests.support.probes.django_tasks.fail"
    running.wait_for("tests.support.probes.django_tasks.fail")
