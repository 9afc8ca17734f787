"""What a slot takes from the ledger itself, past Redis: each as if it had come as a message."""

import os
import signal
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord
from django.utils import timezone

from app.celery import app
from app.local.servers import free_port
from pressroom import operator_actions
from pressroom.models import Status, TaskAttempt, TaskRun
from tests.reliability.loads import BUNDLED, FOLLOWING, assert_once_each, call, narrow_relay, scrape
from tests.support.ledger_rows import change_run
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

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
    for _ in range(3):
        tasks.reject.delay()
    tasks.reject_once.delay(f"{effects}.rejected")
    tasks.unspeakable.delay()
    narrow_relay(stack)
    port = free_port()
    stack.worker("--concurrency=2", include=include, METRICS_PORT=str(port))
    until(done, "all are done")
    ends = Counter(TaskRun.objects.values_list("name", "status"))
    assert ends["probe.fail", Status.DEAD] == 6
    assert ends["probe.caller", Status.SUCCEEDED] == 6
    assert ends["probe.insert_and", Status.DEAD] == 12
    assert ends["probe.insert_and", Status.SUCCEEDED] == 12
    assert (ends["probe.reject", Status.DEAD], ends["probe.unspeakable", Status.DEAD]) == (3, 1)
    until(lambda: counted(port, "celery_task_rejected_total", "probe.reject") == 3, "they are counted")
    failures = {name: counted(port, "celery_task_failed_total", name) for name in ("probe.reject", "probe.fail")}
    assert failures == {"probe.reject": 3, "probe.fail": 6}
    assert ends["probe.reject_once", Status.SUCCEEDED] == 1
    lines = Counter(noted(effects))
    assert lines["by a task"] == lines["first of a chain"] == lines["second of a chain"] == lines["body"] == 6
    assert lines["part 0"] == lines["part 1"] == lines["part 2"] == 6
    assert (tasks.inserted("return"), tasks.inserted("fail"), tasks.inserted("retry")) == (6, 0, 6)
    assert not [run for run in TaskRun.objects.all() if run.attempt == 0 and run.status != Status.REPLACED]


@both
@pytest.mark.parametrize("child_only", [True, False], ids=["child", "worker"])
@pytest.mark.parametrize(("point", "time"), [("worker.claimed_next", 2), ("worker.ran", 5), ("worker.finished", 5)])
def test_killed_in_the_middle(
    stack: Stack, effects: str, tmp_path: Path, point: str, time: int, child_only: bool, include: str
) -> None:
    """Who had begun is run again, who had not is run; a row in its own transaction is there once."""
    held = str(tmp_path / "held")
    call(effects, range(20))
    narrow_relay(stack)
    worker = stack.worker(
        "--concurrency=1",
        include=f"{include},tests.support.probes.holds",
        HOLD_AT=point,
        HOLD_FILE=held,
        HOLD_COUNT=str(time),
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
    """Only that; what waited behind it is run, and the slot is free again, also where it is counted."""
    port = free_port()
    calls = {"first": tasks.hold.delay(effects, "first", str(gate.parent))}  # which exists
    for name in ("a", "b", "c", "d"):
        calls[name] = tasks.hold.delay(effects, name, str(gate))
    narrow_relay(stack)
    stack.worker(f"--pool={pool}", "--concurrency=1", include=include, METRICS_PORT=str(port))
    name = until(lambda: noted(effects)[2:3], "another has begun")[0].split()[0]
    assert (TaskRun.objects.filter(status=Status.RUNNING).count() > 1) == (include == BUNDLED)
    operator_actions.run_cancel(run=TaskRun.of(calls[name]), user=None)
    until(lambda: TaskRun.of(calls[name]).status == Status.CANCELLED, "it is cancelled")
    gate.touch()
    until(done, "the others are done")
    assert Counter(TaskRun.objects.values_list("status", flat=True)) == {"cancelled": 1, "succeeded": 4}
    assert f"{name} ended" not in noted(effects)
    until(lambda: counted(port, "celery_task_succeeded_total", "probe.hold") == 4, "they are counted")
    assert counted(port, "celery_worker_tasks_active", "") == 0
    tasks.effect.delay(effects, "afterwards")
    until(done, "the slot takes another")


def test_a_hard_limit_is_a_verdict_there_too(stack: Stack, effects: str, gate: Path) -> None:
    limits = {"soft_time_limit": None, "time_limit": 3}
    hold = tasks.hold_and_tell
    first = hold.apply_async([effects, "first", str(gate.parent)], **limits)
    others = [hold.apply_async([effects, str(number), str(gate)], **limits) for number in range(3)]
    port = free_port()
    narrow_relay(stack)
    stack.worker("--concurrency=1", include=FOLLOWING, METRICS_PORT=str(port))
    until(done, "all have ended", timeout=180)
    assert TaskRun.of(first).status == Status.SUCCEEDED
    runs = [TaskRun.of(other) for other in others]
    assert [(run.status, run.error_type, run.attempt) for run in runs] == [("dead", "TimeLimitExceeded", 1)] * 3
    told = {f"{other.id} TimeLimitExceeded {number}" for number, other in enumerate(others)}
    until(lambda: set(noted(f"{effects}.failures")) == told, "each is told, and of itself alone")
    assert len(noted(f"{effects}.failures")) == 3
    until(lambda: counted(port, "celery_task_failed_total", "probe.hold_and_tell") == 3, "each is counted once")
    assert counted(port, "celery_task_succeeded_total", "probe.hold_and_tell") == 1


def test_a_limit_of_greenlets_ends_the_one_that_is_over_it(stack: Stack, effects: str, gate: Path) -> None:
    """What had ended before it in its bundle is not done again, and what waited behind it is run."""
    limits = {"soft_time_limit": None, "time_limit": 3}
    ready = str(gate.parent)
    for name, path in (("first", ready), ("a", ready), ("over", str(gate)), ("b", ready)):
        tasks.hold.apply_async([effects, name, path], **limits)
    narrow_relay(stack)
    stack.worker("--pool=gevent", "--concurrency=1", include=BUNDLED)
    until(done, "all have ended", timeout=180)
    assert Counter(TaskRun.objects.values_list("status", "error_type")) == {
        ("succeeded", ""): 3,
        ("dead", "TimeLimitExceeded"): 1,
    }
    assert Counter(line for line in noted(effects) if line.endswith("ended")) == {
        f"{name} ended": 1 for name in ("first", "a", "b")
    }


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
@pytest.mark.parametrize(
    "include", ["tests.support.probes.tasks", FOLLOWING, BUNDLED], ids=["alone", "following", "bundled"]
)
def test_who_leaves_in_the_middle_has_lost_an_attempt(stack: Stack, effects: str, pool: str, include: str) -> None:
    calls = [tasks.effect.delay(effects, "before")] if include != "tests.support.probes.tasks" else []
    calls.append(tasks.leave_once.delay(f"{effects}.leave"))
    calls.append(tasks.effect.delay(effects, "after"))
    narrow_relay(stack)
    stack.worker(f"--pool={pool}", "--concurrency=1", include=include)
    until(done, "all are done")
    assert Counter(TaskRun.objects.values_list("name", "status", "losses")) == {
        ("probe.effect", "succeeded", 0): len(calls) - 1,
        ("probe.leave_once", "succeeded", 1): 1,
    }
    assert sorted(noted(effects)) == ["after", "before"][: len(calls) - 1]
    assert len(noted(f"{effects}.leave")) == 2


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_claim_that_nobody_has_is_lost(stack: Stack, effects: str, gate: Path, redis_server: Any, pool: str) -> None:
    """As of a process that was killed with its claim on the way to Postgres. What runs is not, nor without Redis."""
    worker_process = stack.worker(f"--pool={pool}", "--concurrency=1")
    stack.relay()
    runs = TaskRun.of(tasks.hold.delay(effects, "runs", str(gate)))
    until(lambda: noted(effects), "it has begun")
    redis_server.stop()
    if pool != "gevent":  # which does not ask while its only slot is busy
        until(lambda: "Connection to broker lost" in worker_process.output(), "the worker knows that Redis is gone")
    worker = TaskRun.objects.get(pk=runs.pk).worker_id
    orphan = TaskRun.of(tasks.effect.apply_async([effects, "orphan"], countdown=3600))
    long_ago = timezone.now() - timedelta(seconds=60)
    change_run(runs.pk, started_at=long_ago)
    change_run(
        orphan.pk,
        status=Status.RUNNING,
        claim=uuid.uuid4(),
        worker_id=worker,
        attempt=1,
        started_at=long_ago,
        run_at=long_ago,
    )
    until(lambda: TaskRun.objects.get(pk=orphan.pk).losses == 1, "it is due again")
    assert TaskRun.objects.values_list("status", "losses", "attempt").get(pk=runs.pk) == ("running", 0, 1)
    redis_server.start()
    gate.touch()
    until(done, "both are done")
    assert noted(effects)[1:] == ["runs ended", "orphan"]


def test_an_id_that_is_revoked_is_left_and_others_are_taken(stack: Stack, effects: str) -> None:
    stack.worker("--concurrency=1", include=FOLLOWING)
    calls = [tasks.effect.delay(effects, str(number)) for number in range(20)]
    assert app.control.revoke([calls[10].id, str(uuid.uuid4())], reply=True, timeout=60, limit=1)
    pushed = narrow_relay(stack)
    until(done, "all are done")
    assert sorted(map(int, noted(effects))) == [number for number in range(20) if number != 10]
    assert TaskRun.of(calls[10]).status == Status.CANCELLED
    assert pushed() < 15


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
