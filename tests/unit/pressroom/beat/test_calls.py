"""A call that cannot be made, or whose transaction is refused, is its schedule's alone."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, OperationalError, connection
from django.utils import timezone
from django_celery_beat.models import (
    PeriodicTask,
    PeriodicTasks,
)  # fmt: skip

from app.celery import app
from pressroom.beat.scheduler import LedgerScheduler
from pressroom.models import SkippedTick, TaskRun
from pressroom.operations.schedules import schedule_run_now, schedules
from pressroom.operator_actions import NotPossible
from pressroom.sql import ends
from tests.support.probes import here
from tests.unit.pressroom.beat.schedules import LONG_AGO, TABLE, a_round, entry, fired, marks, row, sql

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Let each call of the schedule `odd` fail with an error."""
    plain = LedgerScheduler.apply_async

    def by(error: Exception) -> None:
        def call(self: LedgerScheduler, entry: Any, *args: Any, **kwargs: Any) -> Any:
            if entry.name == "odd":
                raise error
            return plain(self, entry, *args, **kwargs)

        monkeypatch.setattr(LedgerScheduler, "apply_async", call)

    return by


class OfAProject(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(3), OfAProject("of a project")], ids=["exit", "own"])
@pytest.mark.parametrize("where", ["key", "apply_async"])
def test_what_is_no_exception_is_the_schedules_error_too(
    scheduler: LedgerScheduler, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(app.tasks["probe.limited_effect"], where, fail)
    row("odd", task="probe.limited_effect", args='["/dev/null", "x", 1]')
    row("other")
    a_round(scheduler)
    assert (fired("odd"), fired("other")) == (0, 1)
    assert type(error).__name__ in marks()["odd"]


@pytest.mark.parametrize("where", ["key", "apply_async"])
def test_a_signal_meanwhile_ends_beat(scheduler: LedgerScheduler, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def stop(*_: object) -> None:
        raise SystemExit(0)

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGUSR2)

    monkeypatch.setattr(app.tasks["probe.limited_effect"], where, meanwhile)
    row("odd", task="probe.limited_effect", args='["/dev/null", "x", 1]')
    before = signal.signal(signal.SIGUSR2, stop)
    try:
        with pytest.raises(SystemExit):
            a_round(scheduler)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert marks() == {}


def test_a_tick_whose_last_run_still_stands_is_recorded_as_skipped(scheduler: LedgerScheduler, code: Any) -> None:
    code["standing"] = entry(options={"unique": "until done"})
    scheduler.take_over_code()
    every_ten = PeriodicTask.objects.filter(name="standing")
    for ticks in range(1, 5):
        before = every_ten.get().last_run_at
        every_ten.update(last_run_at=timezone.now() - LONG_AGO)
        PeriodicTasks.update_changed()
        a_round(scheduler)
        row_now = every_ten.get()
        assert before is None or row_now.last_run_at > before
        # The first one is a run, the others are not.
        assert row_now.total_run_count == 1
        skipped = SkippedTick.objects.filter(schedule="standing").first()
        assert (skipped.number if skipped else 0) == ticks - 1
    assert fired("standing") == 1
    assert skipped is not None
    assert skipped.celery_id == TaskRun.objects.get().celery_id
    assert [found.skipped for found in schedules() if found.name == "standing"] == [skipped]
    assert marks() == {}

    run = TaskRun.objects.get()
    assert ends.succeed(here.claimed(run), None)
    every_ten.update(last_run_at=timezone.now() - LONG_AGO)
    PeriodicTasks.update_changed()
    a_round(scheduler)
    assert fired("standing") == every_ten.get().total_run_count == 2


def test_a_one_off_that_is_skipped_is_over(scheduler: LedgerScheduler, code: Any) -> None:
    code["standing"] = entry(options={"unique": "until done"})
    scheduler.take_over_code()
    every_ten = PeriodicTask.objects.filter(name="standing")
    for is_one_off in (False, True):
        every_ten.update(last_run_at=timezone.now() - LONG_AGO, one_off=is_one_off, total_run_count=0)
        PeriodicTasks.update_changed()
        a_round(scheduler)
    PeriodicTasks.update_changed()
    a_round(scheduler)
    assert not every_ten.get().enabled
    assert SkippedTick.objects.get().number == 1
    assert fired("standing") == 1


def test_a_schedule_that_is_run_now_says_that_its_last_run_stands(
    scheduler: LedgerScheduler, code: Any, admin_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pressroom.operations.schedules.schedulable", lambda: ["probe.effect"])
    code["standing"] = entry(options={"unique": "until done"})
    scheduler.take_over_code()
    every_ten = PeriodicTask.objects.get(name="standing")
    assert schedule_run_now(row=every_ten, user=admin_user) is not None
    with pytest.raises(NotPossible, match="still stands"):
        schedule_run_now(row=every_ten, user=admin_user)
    assert LogEntry.objects.filter(object_id=every_ten.pk).count() == 1


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), RecursionError("deep"), MemoryError(), IntegrityError("twice"), OperationalError("index")],
    ids=repr,
)
def test_a_call_that_cannot_be_made_is_marked_and_the_others_fire_on(
    scheduler: LedgerScheduler, refused: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = row("odd")
    row("the neighbour")
    refused(error)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert list(marks()) == ["odd"]
    assert type(error).__name__ in marks()["odd"]
    before, odd = odd.last_run_at, PeriodicTask.objects.get(pk=odd.pk)
    assert odd.last_run_at > before, "it has moved on, so it does not spin"
    monkeypatch.undo()
    PeriodicTask.objects.filter(pk=odd.pk).update(last_run_at=before)
    PeriodicTasks.update_changed()
    scheduler.app.conf.beat_schedule  # noqa: B018 - as it was
    a_round(scheduler)
    assert fired("odd") == 1
    assert marks() == {}


def test_a_commit_that_is_refused_is_the_schedule_s(
    scheduler: LedgerScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deferred constraint speaks at the commit: it was tried again for ever, and nothing else fired."""
    row("odd"), row("the neighbour")
    plain = LedgerScheduler.apply_async

    def call(self: LedgerScheduler, entry: Any, *args: Any, **kwargs: Any) -> Any:
        if entry.name == "odd":
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {TABLE} SET interval_id = 0 WHERE name = 'odd'")
        return plain(self, entry, *args, **kwargs)

    monkeypatch.setattr(LedgerScheduler, "apply_async", call)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert fired("odd") == 0
    assert "IntegrityError" in marks()["odd"]


def test_a_row_that_cannot_even_be_moved_on(scheduler: LedgerScheduler) -> None:
    """The count of its runs is the largest number that the column holds."""
    row("odd"), row("the neighbour")
    sql(f"UPDATE {TABLE} SET total_run_count = 2147483647 WHERE name = 'odd'")
    a_round(scheduler)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert "integer out of range" in marks()["odd"]


def test_a_deadlock_is_tried_again_at_once(scheduler: LedgerScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    row("odd")
    plain, tries = LedgerScheduler.apply_async, []

    def call(self: LedgerScheduler, *args: Any, **kwargs: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$")
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(LedgerScheduler, "apply_async", call)
    a_round(scheduler)
    assert fired("odd") == 1
    assert marks() == {}


def test_an_error_of_no_schedule_does_not_end_beat(
    scheduler: LedgerScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    row("one")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE taskruns_brokenschedule RENAME TO away")
    try:
        assert scheduler.tick() == scheduler.tick() == 1.0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO taskruns_brokenschedule")
    assert caplog.text.count("no tick: ") == 1
    a_round(scheduler)
    assert fired("one") == 1
