"""What a slot takes from the ledger itself, past Redis: each as if it had come as a message."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from celery import chain, chord

from app.celery import app
from app.local.services import free_port
from app.taskruns import actions
from app.taskruns.models import Status, TaskAttempt, TaskRun
from tests.notes import noted
from tests.probes import tasks
from tests.probes.ledger import done
from tests.processes import Stack
from tests.reliability.loads import BUNDLED, FOLLOWING, assert_once_each, call, narrow_relay, scrape
from tests.waiting import until

both = pytest.mark.parametrize("include", [FOLLOWING, BUNDLED], ids=["following", "bundled"])


def counted(port: int, name: str, task: str) -> float:
    return sum(value for key, value in scrape(port).items() if key[0] == name and task in key)


@both
def test_a_backlog_goes_past_redis_and_is_counted(stack: Stack, effects: str, include: str) -> None:
    call(effects, range(150))
    port = free_port()
    pushed = narrow_relay(stack)
    stack.worker("--concurrency=1", include=include, METRICS_PORT=str(port))
    until(done, "all are done")
    assert_once_each(effects, range(150))
    assert set(TaskRun.objects.values_list("attempt", flat=True)) == {1}
    run = TaskRun.objects.filter(name="probe.effect").latest("id")
    assert run.run_at <= run.started_at <= run.finished_at
    assert TaskRun.objects.filter(result__isnull=True, name="probe.effect").count() == 0
    until(lambda: counted(port, "celery_task_succeeded_total", "probe.effect") == 150, "they are counted")
    for name in ("celery_task_received_total", "celery_task_started_total", "celery_task_runtime_count"):
        assert counted(port, name, "probe.insert") == 150, name
    assert pushed() < 100


@both
def test_ends_of_every_kind(stack: Stack, effects: str, include: str) -> None:
    for _ in range(6):
        tasks.fail.delay("no")
    for _ in range(6):
        tasks.caller.delay(effects, "by a task")
    for _ in range(6):
        tasks.retry_by_hand.delay(f"{effects}.retried", 2)
    for _ in range(6):
        tasks.step.delay(f"{effects}.steps", 2)
    for then in ("return", "fail", "retry", "break"):
        for _ in range(6):
            tasks.insert_and.delay(effects, then, then)
    for _ in range(6):
        chain(tasks.effect.s(effects, "first of a chain"), tasks.effect.si(effects, "second of a chain")).delay()
    for _ in range(6):
        chord([tasks.effect.s(effects, f"part {n}") for n in range(3)], tasks.effect.si(effects, "body")).delay()
    tasks.reject.delay()
    tasks.reject_once.delay(f"{effects}.rejected")
    tasks.unspeakable.delay()
    narrow_relay(stack)
    stack.worker("--concurrency=2", include=include)
    until(done, "all are done")
    ends = Counter(TaskRun.objects.values_list("name", "status"))
    assert ends["probe.fail", Status.DEAD] == 6
    assert ends["probe.caller", Status.SUCCEEDED] == 6
    assert ends["probe.insert_and", Status.DEAD] == 12
    assert ends["probe.insert_and", Status.SUCCEEDED] == 12
    assert ends["probe.reject", Status.DEAD] == ends["probe.unspeakable", Status.DEAD] == 1
    assert ends["probe.reject_once", Status.SUCCEEDED] == 1
    lines = Counter(noted(effects))
    assert lines["by a task"] == lines["first of a chain"] == lines["second of a chain"] == lines["body"] == 6
    assert lines["part 0"] == lines["part 1"] == lines["part 2"] == 6
    assert (tasks.inserted("return"), tasks.inserted("fail"), tasks.inserted("retry")) == (6, 0, 6)
    assert not [run for run in TaskRun.objects.all() if run.attempt == 0 and run.status != Status.REPLACED]


@both
@pytest.mark.parametrize("child_only", [True, False], ids=["child", "worker"])
@pytest.mark.parametrize(("point", "time"), [("worker.exchanged", 3), ("worker.ran", 5), ("worker.finished", 5)])
def test_killed_in_the_middle(
    stack: Stack, effects: str, tmp_path: Path, point: str, time: int, child_only: bool, include: str
) -> None:
    """Who had begun is run again, who had not is run; a row in its own transaction is there once."""
    held = str(tmp_path / "held")
    call(effects, range(20))
    narrow_relay(stack)
    worker = stack.worker(
        "--concurrency=1", include=f"{include},tests.probes.holds", HOLD_AT=point, HOLD_FILE=held, HOLD_COUNT=str(time)
    )
    [pid] = until(lambda: noted(held), "it has come to the point")
    if child_only:
        os.kill(int(pid), signal.SIGKILL)
    else:
        worker.kill()
        stack.worker(include=include)
    until(done, "all are done")
    assert TaskRun.objects.exclude(status=Status.SUCCEEDED).count() == 0
    assert set(map(int, noted(effects))) == set(range(20))
    assert [tasks.inserted(f"row {number}") for number in range(20)] == [1] * 20
    # What was lost comes as a message, alone.
    losses = max(TaskRun.objects.values_list("losses", flat=True))
    assert losses == 1 or (point == "worker.finished" and losses == 0)  # whose end may be written by then
    assert set(TaskAttempt.objects.values_list("outcome", flat=True)) == ({"lost"} if losses else set())


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
@both
def test_one_is_cancelled(stack: Stack, effects: str, gate: Path, pool: str, include: str) -> None:
    """Only that; what waited behind it is run."""
    calls = {"first": tasks.hold.delay(effects, "first", str(gate.parent))}  # which exists
    for name in ("a", "b", "c", "d"):
        calls[name] = tasks.hold.delay(effects, name, str(gate))
    narrow_relay(stack)
    stack.worker(f"--pool={pool}", "--concurrency=1", include=include)
    name = until(lambda: noted(effects)[2:3], "another has begun")[0].split()[0]
    assert (TaskRun.objects.filter(status=Status.RUNNING).count() > 1) == (include == BUNDLED)
    actions.run_cancel(run=TaskRun.of(calls[name]), user=None)
    until(lambda: TaskRun.of(calls[name]).status == Status.CANCELLED, "it is cancelled")
    gate.touch()
    until(done, "the others are done")
    assert Counter(TaskRun.objects.values_list("status", flat=True)) == {"cancelled": 1, "succeeded": 4}
    assert f"{name} ended" not in noted(effects)


def test_a_hard_limit_is_a_verdict_there_too(stack: Stack, effects: str, gate: Path) -> None:
    limits = {"soft_time_limit": None, "time_limit": 3}
    first = tasks.hold.apply_async([effects, "first", str(gate.parent)], **limits)
    others = [tasks.hold.apply_async([effects, str(number), str(gate)], **limits) for number in range(3)]
    narrow_relay(stack)
    stack.worker("--concurrency=1", include=FOLLOWING)
    until(done, "all have ended", timeout=180)
    assert TaskRun.of(first).status == Status.SUCCEEDED
    runs = [TaskRun.of(other) for other in others]
    assert [(run.status, run.error_type, run.attempt) for run in runs] == [("dead", "TimeLimitExceeded", 1)] * 3


def test_a_rate_limit_of_just_now_holds(stack: Stack, effects: str) -> None:
    stack.worker("--concurrency=1", include=FOLLOWING)
    told = app.control.rate_limit("probe.effect", "10000/m", reply=True, timeout=60, limit=1)
    assert told
    for number in range(20):
        tasks.effect.delay(effects, str(number))
    pushed = narrow_relay(stack)
    until(done, "all are done")
    assert pushed() == 20
    assert sorted(map(int, noted(effects))) == list(range(20))
