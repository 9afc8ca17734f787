"""Calls in a transaction are stored together, and nobody sees the difference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from pressroom.enqueue import arguments
from pressroom.enqueue.buffer import MOST
from pressroom.models import TaskRun, Tick
from pressroom.sql.runs import DuplicateTaskIdError
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)


def call(count: int = 1) -> None:
    for number in range(count):
        tasks.effect.delay("nowhere", str(number))


@transaction.atomic
def call_and_fail() -> None:
    call(2)
    raise ZeroDivisionError


@transaction.atomic
def call_and_break() -> None:
    """A statement fails."""
    call(2)
    Tick.objects.create(name="there", at="2026-01-01T00:00Z")


@transaction.atomic
def call_what_cannot_be_stored(hook: Callable[[], None]) -> None:
    Tick.objects.create(name="here", at="2026-01-01T00:00Z")
    transaction.on_commit(hook)
    tasks.effect.apply_async(["nowhere", "a"], priority=1_000_000)


def test_many_in_one_statement() -> None:
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        call(MOST + 3)
    assert sum("taskruns_insert" in query["sql"] for query in captured.captured_queries) == 2
    assert TaskRun.objects.count() == MOST + 3
    numbers = [run.arguments[0][1] for run in TaskRun.objects.order_by("run_at")]
    assert numbers == [str(number) for number in range(MOST + 3)]


def test_without_a_transaction_each_at_once() -> None:
    with CaptureQueriesContext(connection) as captured:
        call(3)
        assert len(captured) == 3


def test_who_asks_in_the_transaction_finds_them() -> None:
    with transaction.atomic():
        call(2)
        assert TaskRun.objects.count() == 2
        call()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM taskruns_taskrun")
            assert cursor.fetchone() == (3,)


def test_gone_with_the_transaction() -> None:
    with pytest.raises(ZeroDivisionError):
        call_and_fail()
    call()
    assert TaskRun.objects.count() == 1


def test_gone_with_their_savepoint_only() -> None:
    with transaction.atomic():
        call()
        with pytest.raises(ZeroDivisionError):
            call_and_fail()
        call()
    assert [run.arguments[0][1] for run in TaskRun.objects.all()] == ["0", "0"]


def test_gone_with_a_savepoint_that_a_statement_broke() -> None:
    Tick.objects.create(name="there", at="2026-01-01T00:00Z")
    with transaction.atomic():
        call()
        with pytest.raises(IntegrityError):
            call_and_break()
    assert TaskRun.objects.count() == 1


def test_what_cannot_be_stored_undoes_the_transaction_and_its_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "check_priority", lambda name, priority: priority or 0)
    called: list[int] = []
    with pytest.raises(DataError):
        call_what_cannot_be_stored(lambda: called.append(1))
    assert not Tick.objects.exists()
    call()
    assert TaskRun.objects.count() == 1
    assert not called


def test_an_id_that_is_live_is_refused_at_the_call() -> None:
    tasks.effect.apply_async(["nowhere", "a"], task_id="mine")
    with transaction.atomic():
        call()
        with pytest.raises(DuplicateTaskIdError):
            tasks.effect.apply_async(["nowhere", "b"], task_id="mine")
        call()
    assert TaskRun.objects.count() == 3
