"""Each process killed at each point of a task's life, by SIGKILL, where the others cannot know what it had done."""

import os
import signal
import sys
from pathlib import Path

import pytest

from app.local.servers import free_port
from pressroom.models import Status, TaskRun
from tests.reliability.loads import scrape, total
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

CALL = """
from django.db import transaction
from tests.support.probes import tasks
with transaction.atomic():
    for _ in range({count}):
        tasks.effect.delay({effects!r}, "called")
"""


@pytest.fixture
def held(tmp_path: Path) -> str:
    """The file in which a held process leaves its id."""
    return str(tmp_path / "held")


def hold_at(point: str, held: str) -> dict[str, str]:
    return {"HOLD_AT": point, "HOLD_FILE": held}


def kill_held(process: Process, held: str, *, child_only: bool = False) -> None:
    [pid] = until(lambda: noted(held), "it has come to the point")
    if child_only:
        assert int(pid) in process.children()
        os.kill(int(pid), signal.SIGKILL)
    else:
        process.kill()


def worker_killed_at(stack: Stack, point: str, held: str, child_only: bool = False, concurrency: int = 1) -> None:
    worker = stack.worker(
        f"--concurrency={concurrency}",
        include="tests.support.probes.tasks,tests.support.probes.holds",
        **hold_at(point, held),
    )
    kill_held(worker, held, child_only=child_only)
    if not child_only:
        stack.worker()


# ---- The caller ------------------------------------------------------------------------------------------------------


def caller_killed_at(stack: Stack, point: str, held: str, effects: str, count: int = 1) -> None:
    code = CALL.format(effects=effects, count=count)
    command = [sys.executable, "-m", "tests.support.probes.holds", "shell", "-v0", "-c", code]
    kill_held(stack.start(command, "", **hold_at(point, held)), held)


def test_caller_killed_between_insert_and_commit(stack: Stack, effects: str, held: str) -> None:
    # A single call is stored and committed by one message, so there is nothing between.
    caller_killed_at(stack, "call.stored", held, effects, count=2)
    stack.relay()
    stack.worker()
    # Another one, called after it, is done: so would it be.
    assert tasks.effect.delay(effects, "later").get(timeout=60) == "later"

    assert TaskRun.objects.count() == 1
    assert noted(effects) == ["later"]


def test_caller_killed_between_commit_and_wake_up(stack: Stack, effects: str, held: str) -> None:
    caller_killed_at(stack, "call.committed", held, effects)
    assert TaskRun.objects.get().status == Status.QUEUED
    stack.relay()
    stack.worker()
    until(done, "it is done")

    assert noted(effects) == ["called"]


# ---- The relay -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["relay.marked", "relay.pushed"])
def test_relay_killed_before_and_after_its_push(stack: Stack, effects: str, held: str, point: str) -> None:
    for number in range(5):
        tasks.effect.delay(effects, str(number))
    relay = stack.start([sys.executable, "-m", "tests.support.probes.holds", "relay"], "ready", **hold_at(point, held))
    kill_held(relay, held)
    assert TaskRun.objects.filter(published_at__isnull=False).count() == 5
    stack.relay()
    stack.worker()
    until(done, "all are done")

    assert sorted(noted(effects)) == list("01234")


# ---- The worker ------------------------------------------------------------------------------------------------------


def test_worker_killed_between_receipt_and_claim(stack: Stack, effects: str, held: str) -> None:
    stack.relay()
    result = tasks.effect.delay(effects, "received")
    worker_killed_at(stack, "worker.received", held)

    assert result.get(timeout=120) == "received"
    # It never began, so it has lost nothing.
    assert (TaskRun.of(result).attempt, TaskRun.of(result).losses) == (1, 0)
    assert noted(effects) == ["received"]


def test_child_killed_before_its_claim(stack: Stack, effects: str, held: str) -> None:
    port = free_port()
    stack.relay()
    result = tasks.effect.delay(effects, "accepted")
    worker = stack.worker(
        "--concurrency=1",
        include="tests.support.probes.tasks,tests.support.probes.holds",
        METRICS_PORT=str(port),
        **hold_at("worker.accepted", held),
    )
    kill_held(worker, held, child_only=True)

    assert result.get(timeout=120) == "accepted"
    assert (TaskRun.of(result).attempt, TaskRun.of(result).losses) == (1, 0)
    assert noted(effects) == ["accepted"]
    until(lambda: total(scrape(port), "celery_task_succeeded_total") == 1, "its end is counted")
    # The attempt had not begun, so none is lost.
    assert total(scrape(port), "pressroom_task_lost_total") == 0


@pytest.mark.parametrize("child_only", [False, True], ids=["process", "child"])
def test_worker_killed_between_claim_and_run(stack: Stack, effects: str, held: str, child_only: bool) -> None:
    stack.relay()
    result = tasks.effect.delay(effects, "claimed")
    worker_killed_at(stack, "worker.claimed", held, child_only)

    assert result.get(timeout=120) == "claimed"
    assert (TaskRun.of(result).attempt, TaskRun.of(result).losses) == (2, 1)
    assert noted(effects) == ["claimed"]


@pytest.mark.parametrize("child_only", [False, True], ids=["process", "child"])
def test_worker_killed_between_effect_and_finish(stack: Stack, effects: str, held: str, child_only: bool) -> None:
    """The window that remains: what was done outside of the database is done again; in it, once."""
    stack.relay()
    result = tasks.insert.delay(effects, "ran")
    worker_killed_at(stack, "worker.ran", held, child_only)

    assert result.get(timeout=120) == "ran"
    assert noted(effects) == ["ran", "ran"]
    assert tasks.inserted("ran") == 1


@pytest.mark.parametrize("child_only", [False, True], ids=["process", "child"])
def test_worker_killed_between_finish_and_the_next_step(
    stack: Stack, effects: str, held: str, child_only: bool
) -> None:
    stack.relay()
    chain = tasks.effect.si(effects, "first") | tasks.effect.si(effects, "second")
    result = chain.delay()
    worker_killed_at(stack, "worker.finished", held, child_only)

    assert result.get(timeout=120) == "second"
    assert noted(effects) == ["first", "second"]
