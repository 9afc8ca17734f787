"""Schedules that change while beat is about to fire them."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import (
    CrontabSchedule,
    PeriodicTask,
)  # fmt: skip

from app.celery import app
from pressroom.beat.entry import read_schedules
from pressroom.beat.scheduler import LedgerScheduler
from pressroom.models import TaskRun
from tests.unit.pressroom.beat.schedules import LONG_AGO, TABLE, a_round, fired, marks, row, sql

pytestmark = pytest.mark.django_db(transaction=True)


def ready(scheduler: LedgerScheduler) -> Any:
    """Its entry, as beat has read it."""
    return scheduler.schedule["mine"]


@pytest.mark.parametrize("change", ["deleted", "paused", "edited", "by SQL"])
def test_a_schedule_that_changes_while_beat_is_about_to_fire_it(scheduler: LedgerScheduler, change: str) -> None:
    mine = row("mine")
    due = ready(scheduler)
    if change == "deleted":
        mine.delete()
    elif change == "by SQL":
        PeriodicTask.objects.update(enabled=False)
    else:
        mine.enabled = change == "edited"
        mine.args = '["/dev/null", "new"]'
        mine.save()
    next(due)
    scheduler.apply_entry(due)
    assert TaskRun.objects.count() == 0, "not as it was read"
    a_round(scheduler)
    assert [run.arguments[0] for run in TaskRun.objects.all()] == ([["/dev/null", "new"]] if change == "edited" else [])
    assert marks() == {}


def test_an_edit_that_was_begun_before_a_tick_does_not_undo_it(scheduler: LedgerScheduler) -> None:
    """The admin saves all columns, and with them the last run as the form's row had it: it fired once more."""
    mine = row("mine")
    a_round(scheduler)
    assert fired("mine") == 1
    mine.description = "edited"
    mine.save()
    assert mine.total_run_count == 0, "the instance is as it was"
    a_round(scheduler)
    assert fired("mine") == 1
    assert PeriodicTask.objects.get().total_run_count == 1
    assert PeriodicTask.objects.get().description == "edited"


def test_a_last_run_that_is_set_by_hand_is_heeded() -> None:
    mine = row("mine")
    mine.last_run_at = None
    mine.save()
    assert PeriodicTask.objects.get().last_run_at is None
    mine.enabled = False
    mine.save()
    mine.enabled = True
    mine.save()
    assert PeriodicTask.objects.get().last_run_at is None


def test_two_beats_fire_a_one_off_once(scheduler: LedgerScheduler) -> None:
    row("mine", one_off=True)
    other = LedgerScheduler(app=app, lazy=True)
    ready(scheduler), ready(other)
    for _ in range(3):
        a_round(scheduler)
        a_round(other)
    assert fired("mine") == 1
    assert not PeriodicTask.objects.get().enabled


def test_what_is_over_is_switched_off_without_undoing_an_edit(scheduler: LedgerScheduler) -> None:
    mine = row("mine", expires=timezone.now() - LONG_AGO)
    ready(scheduler)
    due = ready(scheduler)
    mine.expires = None
    mine.save()
    due.is_due()
    assert PeriodicTask.objects.get().enabled
    a_round(scheduler)
    assert fired("mine") == 1


def test_a_missed_hour_is_made_up_for_at_any_hour(scheduler: LedgerScheduler, time_machine: Any) -> None:
    """django-celery-beat leaves out crontabs whose hour is far from now, and fires a missed one two hours early."""
    time_machine.move_to(datetime.datetime(2026, 5, 1, 9, tzinfo=datetime.UTC), tick=False)
    cron = CrontabSchedule.objects.create(minute="0", hour="3", timezone="UTC")
    row("mine", interval=None, crontab=cron)
    PeriodicTask.objects.update(last_run_at=datetime.datetime(2026, 4, 30, 3, tzinfo=datetime.UTC))
    a_round(scheduler)
    assert fired("mine") == 1


def test_in_a_transaction_of_its_own(scheduler: LedgerScheduler) -> None:
    """Who reads the schedules in a transaction keeps it, whatever their rows are."""
    row("odd"), row("one")
    sql(f"UPDATE {TABLE} SET last_run_at = 'infinity' WHERE name = 'odd'")
    with transaction.atomic():
        read = {one.name: one.error is None for one in read_schedules(PeriodicTask.objects.order_by("name"))}
        assert PeriodicTask.objects.count() == 2
    assert read == {"odd": False, "one": True}


def test_edits_without_end_keep_no_schedule_from_firing(
    scheduler: LedgerScheduler, code: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import of schedules, for example: each look finds another one, and rows that are due change, too."""
    code["odd"] = {"task": "app.blog.tasks.roll_up_views", "schedule": object()}
    names = [f"one of {number}" for number in range(20)]
    for name in names:
        row(name)
    reads: list[None] = []
    stores: list[None] = []
    for name, calls in (("all_as_schedule", reads), ("update_from_dict", stores)):
        monkeypatch.setattr(scheduler, name, counted(getattr(scheduler, name), calls))
    scheduler.tick()
    stores.clear()
    for number in range(2 * len(names)):
        row(f"new {number}", enabled=False)
        if number < len(names) - 5:
            # The next one is not as beat has read it any more.
            PeriodicTask.objects.get(name=scheduler._heap[0].entry.name).save()
        scheduler.tick()
        if all(fired(name) for name in names):
            break
    assert [fired(name) for name in names] == [1] * len(names)
    assert len(reads) <= 4
    assert not stores, "somebody's edit is no reason to store the code's schedules again"


def counted(method: Callable[..., Any], calls: list[None]) -> Callable[..., Any]:
    """The method, which notes each call."""

    def counting(*args: Any, **options: Any) -> Any:
        calls.append(None)
        return method(*args, **options)

    return counting
