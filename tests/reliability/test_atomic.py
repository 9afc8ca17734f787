"""`atomic=True`: what a task does in the database and the end of its run are one transaction."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from pressroom.models import Status, TaskRun
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


@pytest.fixture
def running(stack: Stack) -> Stack:
    stack.relay()
    stack.worker()
    return stack


@pytest.mark.parametrize(
    ("then", "error", "rows"), [("fail", "ValueError", 0), ("break", "ProgrammingError", 0), ("", "", 1)]
)
def test_a_failure_undoes_rows_and_calls_alike(running: Stack, effects: str, then: str, error: str, rows: int) -> None:
    result = tasks.insert_and.delay(effects, "job", then)
    until(done, "all is done")

    run = TaskRun.of(result)
    assert (run.status, run.error_type) == (Status.DEAD if error else Status.SUCCEEDED, error)
    assert tasks.inserted("job") == rows
    assert len(noted(effects)) == rows
    assert run.attempts.count() == 1 - rows


def test_a_retry_undoes_what_it_did_and_does_it_again(running: Stack, effects: str) -> None:
    result = tasks.insert_and.delay(effects, "job", "retry")
    assert result.get(timeout=60) == "job"
    until(done, "all is done")

    assert TaskRun.of(result).attempt == 2
    assert tasks.inserted("job") == 1
    assert noted(effects) == ["job called"]


def test_what_replaced_itself_is_kept_with_its_replacement(running: Stack, effects: str) -> None:
    result = tasks.insert_and.delay(effects, "job", "replace")
    assert result.get(timeout=60) == "job replaced"
    until(done, "all is done")

    assert (tasks.inserted("job"), tasks.inserted("job replaced")) == (2, 1)
    assert sorted(noted(effects)) == ["job called", "job replaced"]


def test_in_a_chain_and_a_chord(running: Stack, effects: str) -> None:
    chain = tasks.insert.si(effects, "1") | tasks.insert.si(effects, "2")
    assert chain.delay().get(timeout=60) == "2"
    from celery import chord

    header = [tasks.insert.si(effects, f"part {number}") for number in range(4)]
    assert chord(header)(tasks.insert.si(effects, "body")).get(timeout=60) == "body"
    assert tasks.inserted("body") == 1


def test_a_connection_cut_in_the_body_costs_an_attempt_and_doubles_nothing(
    running: Stack, effects: str, tmp_path: Path
) -> None:
    """The body has no more to ask: only the commit learns that its transaction is gone."""
    result = tasks.insert_and.delay(effects, "job", "cut")
    [pid] = until(lambda: noted(f"{effects}.pid"), "it waits")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [int(pid)])
    Path(f"{effects}.cut").touch()

    assert result.get(timeout=60) == "job"
    assert (TaskRun.of(result).attempt, TaskRun.of(result).losses) == (2, 1)
    assert tasks.inserted("job") == 1


# ---- durable=False ---------------------------------------------------------------------------------------------------


def test_not_durable_goes_straight_to_redis_after_the_commit(running: Stack, effects: str, redis_server: Any) -> None:
    with transaction.atomic():
        tasks.glance.delay(effects, "rolled back")
        transaction.set_rollback(True)
    with transaction.atomic():
        tasks.glance.delay(effects, "committed")
    until(lambda: noted(effects), "it ran")

    assert noted(effects) == ["committed"]
    assert not TaskRun.objects.exists()


def test_not_durable_costs_the_caller_nothing_while_redis_is_away(
    effects: str, transactional_db: None, redis_server: Any
) -> None:
    from pressroom.enqueue.wakeup import waker

    redis_server.stop()
    before = waker.dropped
    tasks.glance.delay(effects, "lost")
    until(lambda: waker.dropped > before, "it is given up")
    assert not TaskRun.objects.exists()


def test_not_durable_but_due_later_or_part_of_a_group_is_stored(running: Stack, effects: str) -> None:
    from celery import group

    tasks.glance.apply_async([effects, "later"], countdown=0.1)
    group(tasks.glance.si(effects, "part"), tasks.glance.si(effects, "part")).delay()
    until(done, "all is done")

    assert TaskRun.objects.count() == 3
    assert sorted(noted(effects)) == ["later", "part", "part"]


def test_a_retry_of_what_was_not_durable_is_stored(running: Stack, effects: str) -> None:
    tasks.glance_again.delay(effects, "try")
    until(lambda: len(noted(effects)) == 2 and done(), "it ran twice")

    assert noted(effects) == ["try 0", "try 1"]
    assert TaskRun.objects.get().status == Status.SUCCEEDED
