"""Django's Tasks framework on the ledger: calls, results, signals, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import current_app
from celery.exceptions import NotRegistered, TaskRevokedError, WorkerLostError
from django.db import transaction
from django.test import override_settings
from django.utils import timezone
from kombu.exceptions import EncodeError

from app.queues import BY_NAME
from pressroom.django_tasks import LedgerBackend, celery_tasks
from pressroom.django_tasks.framework import (
    InvalidTask,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
    task_finished,
    task_started,
)
from pressroom.models import Status, TaskRun
from pressroom.sql import dispatch
from tests.support.notes import noted
from tests.support.probes import django_tasks as probes
from tests.support.probes import here, tasks

pytestmark = pytest.mark.django_db(transaction=True)
BACKEND = "pressroom.django_tasks.LedgerBackend"


def run_of(result: TaskResult[Any]) -> TaskRun:
    return TaskRun.objects.filter(celery_id=result.id).latest("id")


def executed(result: TaskResult[Any]) -> TaskResult[Any]:
    here.execute(run_of(result))
    result.refresh()
    return result


@pytest.fixture
def sent() -> Iterator[list[tuple[str, str, str]]]:
    """The framework's signals, as they come."""
    got: list[tuple[str, str, str]] = []
    handlers = {}
    for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):

        def on(sender: Any, task_result: TaskResult[Any], name: str = name, **_: Any) -> None:
            assert sender is LedgerBackend
            got.append((name, task_result.id, task_result.status))

        handlers[name] = (signal, on)
        signal.connect(on)
    yield got
    for signal, on in handlers.values():
        signal.disconnect(on)


class TestACall:
    def test_is_a_run_under_the_functions_own_name(self) -> None:
        result = probes.effect.enqueue("nowhere", line="a")
        run = run_of(result)
        assert (run.name, run.queue, run.priority, run.status) == (
            "tests.support.probes.django_tasks.effect", "default", 0, Status.QUEUED,
        )  # fmt: skip
        assert run.arguments == (["nowhere"], {"line": "a"})
        assert (result.status, result.attempts, result.worker_ids) == (TaskResultStatus.READY, 0, [])

    def test_is_undone_by_a_rollback(self) -> None:
        with transaction.atomic():
            result = probes.give_back.enqueue(1)
            transaction.set_rollback(True)
        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()

    def test_takes_queue_priority_and_time_from_the_caller(self) -> None:
        after = timezone.now() + timedelta(hours=1)
        result = probes.give_back.using(queue_name="emails", priority=-7, run_after=after).enqueue(1)
        run = run_of(result)
        assert (run.queue, run.priority, run.run_at) == ("emails", 7, after)
        again = probes.give_back.get_result(result.id)
        assert again == result
        assert (again.task.queue_name, again.task.priority, again.task.run_after) == ("emails", -7, after)

    def test_has_the_declared_queue_and_priority(self) -> None:
        run = run_of(probes.in_emails.enqueue())
        assert (run.queue, run.priority) == ("emails", -5)

    def test_of_high_priority_goes_before_everything_else(self) -> None:
        calls = {
            run_of(probes.give_back.using(priority=priority).enqueue(priority)).pk: priority
            for priority in (-100, 0, 100)
        }
        calls[TaskRun.of(tasks.effect.delay("nowhere", "plain")).pk] = 0
        taken = dispatch.take_due({"default": 10})
        assert [calls[due.run_id] for due in taken] == [100, 0, 0, -100]

    def test_with_a_naive_time_counts_in_the_sites_zone(self) -> None:
        with override_settings(USE_TZ=False):
            task = probes.give_back.using(run_after=datetime(2031, 5, 1, 12, 0))  # noqa: DTZ001
            result = task.enqueue(1)
        assert run_of(result).run_at == timezone.make_aware(datetime(2031, 5, 1, 12, 0))  # noqa: DTZ001

    def test_in_an_async_function(self) -> None:
        async def call() -> TaskResult[Any]:
            result = await probes.give_back.aenqueue("later")
            assert await probes.give_back.aget_result(result.id) == result
            await sync_to_async(here.execute)(await TaskRun.objects.aget(celery_id=result.id))
            await result.arefresh()
            return result

        assert async_to_sync(call)().return_value == "later"

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (datetime.now(), TypeError), ({1, 2}, TypeError), (b"\xff", ValueError), ("x" * 9_000_000, EncodeError),
            ({"__type__": "datetime", "__value__": "no time"}, EncodeError),
        ],
        ids=["a time", "a set", "bytes", "too large", "what kombu takes for a time"],
    )  # fmt: skip
    def test_with_bad_arguments_stores_nothing(self, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            probes.give_back.enqueue(value)
        assert not TaskRun.objects.exists()

    def test_with_odd_arguments_gets_them_back(self) -> None:
        value = ["", "\x00", "é\u2028", {"a": [None, True, 1e300]}, -(2**70)]
        assert executed(probes.give_back.enqueue(value)).return_value == value

    def test_of_nan_keeps_it(self) -> None:
        assert math.isnan(executed(probes.give_back.enqueue(math.nan)).return_value)

    def test_by_celery_is_a_run_of_it_too(self) -> None:
        call = current_app.send_task(probes.told.module_path, priority=200)
        here.execute(TaskRun.of(call))
        result = probes.told.get_result(call.id)
        assert result.return_value["id"] == call.id
        assert result.task == probes.told
        assert result.enqueued_at == TaskRun.of(call).created_at


class TestAResult:
    def test_of_a_success(self) -> None:
        result = executed(probes.give_back.enqueue({"a": 1}))
        assert (result.status, result.return_value, result.errors) == (TaskResultStatus.SUCCESSFUL, {"a": 1}, [])
        assert (result.attempts, result.worker_ids) == (1, ["test@here"])
        assert result.enqueued_at < result.started_at <= result.finished_at
        assert result.last_attempted_at == result.started_at

    def test_of_a_failure(self) -> None:
        result = executed(probes.fail.enqueue("gone"))
        assert result.status == TaskResultStatus.FAILED
        [error] = result.errors
        assert error.exception_class is KeyError
        assert error.traceback.endswith("KeyError: 'gone'\n")
        assert run_of(result).status == Status.DEAD
        with pytest.raises(ValueError, match="Task failed"):
            _ = result.return_value

    @pytest.mark.parametrize(
        ("task", "kind"), [(probes.leave, SystemExit), (probes.cancel_itself, asyncio.CancelledError)]
    )
    def test_of_what_would_end_the_worker(self, task: Any, kind: type[BaseException]) -> None:
        result = executed(task.enqueue())
        assert result.errors[0].exception_class is kind
        assert run_of(result).status == Status.DEAD
        # Who waits for it by Celery must not be ended either.
        with pytest.raises(Exception, match=r"3|by itself"):
            current_app.AsyncResult(result.id).get(timeout=60)

    def test_that_has_no_json_form_fails_the_run(self) -> None:
        result = executed(probes.give_back_a_function.enqueue())
        assert result.errors[0].exception_class is TypeError
        assert "Unsupported type" in result.errors[0].traceback

    def test_that_is_too_large_fails_the_run(self, settings: Any, sent: list[Any]) -> None:
        result = probes.give_back.enqueue("x" * 2000)
        settings.TASKRUNS_MAX_MESSAGE = 1000
        assert executed(result).errors[0].exception_class is EncodeError
        assert sent[-1] == ("finished", result.id, TaskResultStatus.FAILED)

    def test_tells_of_lost_attempts(self) -> None:
        result = probes.told.enqueue()
        here.settle.record_lost_attempt(run_of(result).pk, here.claimed(run_of(result)).token)
        result.refresh()
        assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
        assert [error.exception_class for error in result.errors] == [WorkerLostError]
        first = result.started_at
        executed(result)
        assert result.return_value["attempt"] == 2
        assert result.return_value["workers"] == ["test@here"] * 2
        assert (result.attempts, len(result.errors), result.started_at) == (2, 1, first)
        assert result.last_attempted_at > first

    @pytest.mark.parametrize(
        ("way", "kind"),
        [
            (here.cancelled, TaskRevokedError), (here.cancelled_while_it_runs, TaskRevokedError),
            (here.expired, TaskRevokedError), (here.failed, KeyError), (here.lost_too_often, WorkerLostError),
            (here.unknown_to_workers, NotRegistered), (here.taken_by_no_worker, ValueError),
        ],
    )  # fmt: skip
    def test_of_an_end_without_a_body(self, way: Any, kind: type[Exception], sent: list[Any]) -> None:
        result = probes.give_back.enqueue(1)
        way(run_of(result))
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert result.errors[-1].exception_class is kind
        assert result.attempts == run_of(result).attempt
        assert [one for one in sent if one[0] == "finished"] == [("finished", result.id, TaskResultStatus.FAILED)]

    @pytest.mark.parametrize("odd", ["", "123", "\x00", "\ud800", 7, None, ["a"]])
    def test_of_nothing(self, odd: Any) -> None:
        with pytest.raises(TaskResultDoesNotExist):
            probes.give_back.get_backend().get_result(odd)

    def test_of_a_celery_task_is_none(self) -> None:
        call = tasks.effect.delay("nowhere", "a")
        with pytest.raises(TaskResultDoesNotExist):
            probes.give_back.get_backend().get_result(call.id)

    def test_belongs_to_the_backend_of_the_call(self, settings: Any) -> None:
        settings.TASKS = {"default": {"BACKEND": BACKEND}, "other": {"BACKEND": BACKEND}}
        result = probes.give_back.using(backend="other").enqueue(1)
        assert result.task.get_backend().get_result(result.id) == result
        with pytest.raises(TaskResultDoesNotExist):
            probes.give_back.get_backend().get_result(result.id)
        executed(result)
        assert result.task.backend == "other"


class TestAnAsyncFunction:
    def test_uses_the_database(self) -> None:
        result = probes.count_groups.enqueue("counted")
        assert executed(result).return_value == [1, str(run_of(result).pk)]


class TestSignals:
    def test_of_a_success_and_a_failure(self, sent: list[Any], caplog: pytest.LogCaptureFixture) -> None:
        good, bad = executed(probes.give_back.enqueue(1)), probes.fail.enqueue("gone")
        with caplog.at_level(logging.ERROR, "django_tasks"):
            executed(bad)
        assert sent == [
            ("enqueued", good.id, "READY"), ("started", good.id, "RUNNING"), ("finished", good.id, "SUCCESSFUL"),
            ("enqueued", bad.id, "READY"), ("started", bad.id, "RUNNING"), ("finished", bad.id, "FAILED"),
        ]  # fmt: skip
        assert "KeyError: 'gone'" in caplog.text

    def test_of_the_end_come_after_its_commit(self) -> None:
        seen: list[str] = []

        def on(sender: Any, task_result: TaskResult[Any], **_: Any) -> None:
            seen.append(run_of(task_result).status)

        task_finished.connect(on)
        try:
            executed(probes.give_back.enqueue(1))
        finally:
            task_finished.disconnect(on)
        assert seen == [Status.SUCCEEDED]

    def test_that_raise_do_not_undo_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        def on(**_: Any) -> None:
            raise RuntimeError("a receiver")

        task_finished.connect(on)
        try:
            assert executed(probes.give_back.enqueue(1)).return_value == 1
        finally:
            task_finished.disconnect(on)
        assert "a step after its commit failed" in caplog.text


class TestADeclaration:
    def test_with_an_undeclared_queue_is_refused(self) -> None:
        with pytest.raises(InvalidTask, match="misspelt"):
            probes.give_back.using(queue_name="misspelt")

    def test_with_an_undeclared_queue_is_refused_at_the_call_if_the_backend_takes_any(self, settings: Any) -> None:
        settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": []}}
        task = probes.give_back.using(queue_name="misspelt")
        with pytest.raises(InvalidTask, match=f"TASKRUNS_QUEUES declares {', '.join(BY_NAME)}."):
            task.enqueue(1)

    @pytest.mark.parametrize("change", [{"priority": 101}, {"priority": -101}, {"run_after": datetime(2030, 1, 1)}])  # noqa: DTZ001
    def test_with_a_bad_option_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(InvalidTask):
            probes.give_back.using(**change)

    def test_with_the_name_of_a_celery_task_is_not_called_in_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(current_app.tasks, probes.give_back.module_path, tasks.effect)
        with pytest.raises(InvalidTask, match="another task of the name"):
            probes.give_back.enqueue(1)

    def test_is_one_celery_task_that_checks_see(self) -> None:
        from pressroom.checks import our_tasks

        assert probes.give_back.module_path in [task.name for task in our_tasks()]


def test_checks_name_what_is_wrong(settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": ["default", "misspelt"], "OPTIONS": {"a": 1}}}
    found = list(LedgerBackend("default", settings.TASKS["default"]).check())
    assert [(one.id, bool(one.hint)) for one in found] == [("pressroom.E090", True), ("pressroom.E091", True)]


def test_a_worker_finds_a_function_in_a_module_that_it_has_not_imported() -> None:
    """Only in the project's own packages: the name of a run is text from a caller."""
    assert not celery_tasks.load("antigravity.fly")
    assert not celery_tasks.load("app.no_such_module.task")
    assert not celery_tasks.load("app.blog.tasks.notify_subscribers")
    for name in ("", ".", "a", "app.", "..", "app.blog.tasks..x", "\x00.a"):
        assert not celery_tasks.load(name)
    with pytest.raises(NotRegistered):
        current_app.tasks["app.no_such_module.task"]


def test_the_signals_of_a_file(tmp_path: Any) -> None:
    path = str(tmp_path / "effects")
    executed(probes.effect.enqueue(path, "once"))
    assert noted(path) == ["once"]
