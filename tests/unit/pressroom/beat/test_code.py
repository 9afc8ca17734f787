"""Schedules of the code: what is wrong with one is told, and what it says holds."""

import datetime
import json
from typing import Any

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab
from celery.schedules import schedule as interval
from django.utils import timezone
from django_celery_beat.models import (
    PeriodicTask,
    PeriodicTasks,
)  # fmt: skip

from app.celery import app
from pressroom.beat.scheduler import LedgerScheduler
from pressroom.models import TaskRun
from tests.support.probes import tasks
from tests.unit.pressroom.beat.schedules import LONG_AGO, a_round, entry, fired, marks, row

pytestmark = pytest.mark.django_db(transaction=True)

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError("no words")


# ---- The code's ------------------------------------------------------------------------------------------------------

BROKEN_CODE: dict[str, tuple[Any, Any, str]] = {
    "a name that is too long": ("n" * 201, entry(), "the name has 201 characters"),
    "a name with NUL": ("a\0b", entry(), "NUL"),
    "a name with half a letter": ("a\ud83d", entry(), "surrogates"),
    "a name that is no text": (5, entry(), "a string as its name"),
    "no name": (None, entry(), "a string as its name"),
    "no mapping": ("odd", ["probe.effect", 5], "a mapping"),
    "nothing": ("odd", None, "a mapping"),
    "no task": ("odd", {"schedule": 5}, "no task"),
    "no schedule": ("odd", {"task": "probe.effect"}, "no schedule"),
    "a set in its kwargs": ("odd", entry(kwargs={"a": {1, 2}}), "set"),
    "a function in its kwargs": ("odd", entry(kwargs={"a": BeatLazyFunc(int)}), "BeatLazyFunc"),
    "a circle in its args": ("odd", entry(args=CIRCLE), ""),
    "words for a schedule": ("odd", entry(schedule="every day"), "schedule is 'every day'"),
    "a schedule of True": ("odd", entry(schedule=True), "schedule is True"),
    "an interval of 0": ("odd", entry(schedule=0), "an interval of 0.0 s"),
    "an interval before now": ("odd", entry(schedule=-5), "an interval of -5.0 s"),
    "an interval of NaN": ("odd", entry(schedule=float("nan")), "NaN"),
    "an interval without end": ("odd", entry(schedule=float("inf")), "infinity"),
    "an interval of centuries": ("odd", entry(schedule=datetime.timedelta(days=999_999_999)), "out of range"),
    "an interval of a microsecond": ("odd", entry(schedule=datetime.timedelta(microseconds=1)), "1e-06 s"),
    "an unknown field": ("odd", entry(colour="red"), "colour"),
    "an undeclared queue": ("odd", entry(options={"queue": "nowhere"}), "no queue 'nowhere'"),
    "a priority in words": ("odd", entry(options={"priority": "high"}), "high"),
    "a countdown of NaN": ("odd", entry(options={"countdown": float("nan")}), "countdown=nan"),
    "an expiry before the call": ("odd", entry(options={"expires": -1.5}), "expires is -1.5"),
    "a time limit of 0": ("odd", entry(options={"time_limit": 0}), "time_limit is 0"),
    "another serializer": ("odd", entry(options={"serializer": "pickle"}), "tasks are always sent as JSON"),
    "a connection": ("odd", entry(options={"connection": object()}), "cannot set the options connection"),
    "options that are none": ("odd", entry(options="expires=5"), ""),
    "headers that are no JSON": ("odd", entry(options={"headers": {"a": {1}}}), "set"),
    "what has no words": ("odd", entry(options={"link": Unspeakable()}), "no words"),
}


@pytest.mark.parametrize("case", BROKEN_CODE)
def test_a_broken_schedule_of_the_code_is_marked_and_the_others_fire_on(
    code: Any, scheduler: LedgerScheduler, case: str
) -> None:
    name, fields, reason = BROKEN_CODE[case]
    code.update({"a neighbour before": entry(), name: fields, "the neighbour after": entry()})
    scheduler.setup_schedule()
    PeriodicTask.objects.update(last_run_at=timezone.now() - LONG_AGO)
    PeriodicTasks.update_changed()
    a_round(scheduler)
    assert fired("a neighbour before") == fired("the neighbour after") == 1
    assert PeriodicTask.objects.count() == 2
    ((_, told),) = marks().items()
    assert reason in told


def test_schedules_of_the_code_that_are_none(monkeypatch: pytest.MonkeyPatch, scheduler: LedgerScheduler) -> None:
    monkeypatch.setattr(app.conf, "beat_schedule", ["every day"])
    row("the neighbour")
    scheduler.setup_schedule()
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert list(marks()) == ["beat_schedule"]


def test_the_code_mended_takes_the_mark_away(code: Any, scheduler: LedgerScheduler) -> None:
    code["odd"] = entry(schedule="every day")
    scheduler.setup_schedule()
    assert marks()
    code["odd"] = entry(schedule=crontab(minute={0, 30}, hour=range(3)))
    scheduler.setup_schedule()
    assert marks() == {}
    cron = PeriodicTask.objects.get(name="odd").crontab
    assert (cron.minute, cron.hour) == ("0,30", "0,1,2")


def test_one_of_the_code_that_an_admin_deletes_stays_away_until_the_next_start(
    code: Any, scheduler: LedgerScheduler
) -> None:
    code["mine"] = entry()
    scheduler.setup_schedule()
    a_round(scheduler)
    PeriodicTask.objects.get().delete()
    a_round(scheduler)
    scheduler._read_again()
    a_round(scheduler)
    assert not PeriodicTask.objects.exists()
    LedgerScheduler(app=app)
    assert PeriodicTask.objects.exists()


def test_beat_schedule_in_a_user_s_code_leaves_the_project_s_own(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`app.conf.beat_schedule = {...}` is how Celery's documents say it."""
    assert "prune-task-runs" in settings.CELERY_BEAT_SCHEDULE
    monkeypatch.setattr(app.conf, "beat_schedule", {"mine": entry()})
    LedgerScheduler(app=app)
    names = set(PeriodicTask.objects.values_list("name", flat=True))
    assert names == {*settings.CELERY_BEAT_SCHEDULE, "mine"}


def test_names_that_look_alike_are_two_schedules(code: Any, scheduler: LedgerScheduler) -> None:
    names = ["report", "Report", "report ", " report", "repоrt", "report\u200b"]  # one with a Cyrillic o
    code.update({name: entry() for name in names})
    scheduler.setup_schedule()
    scheduler.setup_schedule()
    PeriodicTask.objects.update(last_run_at=timezone.now() - LONG_AGO)
    PeriodicTasks.update_changed()
    a_round(scheduler)
    assert sorted(PeriodicTask.objects.values_list("name", "total_run_count")) == sorted((name, 1) for name in names)
    assert TaskRun.objects.count() == len(names)
    assert marks() == {}


@pytest.mark.parametrize("schedule", [0.5, datetime.timedelta(milliseconds=500), interval(0.5)], ids=repr)
def test_every_half_second_is_every_half_second(
    code: Any, scheduler: LedgerScheduler, schedule: Any, time_machine: Any
) -> None:
    code["quick"] = entry(schedule=schedule)
    start = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
    time_machine.move_to(start, tick=False)
    scheduler.setup_schedule()
    for tenth in range(101):
        time_machine.move_to(start + tenth * datetime.timedelta(milliseconds=100), tick=False)
        a_round(scheduler)
    assert fired("quick") == 20, "in ten seconds"


def test_an_interval_with_a_fraction_longer_than_the_table_has(code: Any, scheduler: LedgerScheduler) -> None:
    code["slow"] = entry(schedule=3600.25)
    scheduler.setup_schedule()
    found = PeriodicTask.objects.get().interval
    assert (found.every, found.period) == (3600, "seconds")


def test_the_options_of_a_schedule_hold_for_each_of_its_calls(code: Any, scheduler: LedgerScheduler) -> None:
    later = tasks.effect.si("/dev/null", "then")
    code["mine"] = entry(
        options={"countdown": 30, "expires": 90.5, "time_limit": 40, "soft_time_limit": 20, "link": later,
                 "priority": 3, "queue": "emails", "headers": {"colour": "red"}, "shadow": "another"}
    )  # fmt: skip
    scheduler.setup_schedule()
    for _ in range(2):
        PeriodicTask.objects.update(last_run_at=timezone.now() - LONG_AGO)
        PeriodicTasks.update_changed()
        a_round(scheduler)
    for run in TaskRun.objects.all():
        headers, body = json.loads(run.headers), json.loads(run.body)
        assert (run.run_at - run.created_at).total_seconds() == pytest.approx(30, abs=1)
        assert run.expires_at is not None
        assert (run.expires_at - run.created_at).total_seconds() == pytest.approx(90.5, abs=1)
        assert headers["timelimit"] == [40, 20]
        assert (headers["colour"], headers["shadow"]) == ("red", "another")
        assert (run.queue, run.priority) == ("emails", 3)
        assert body[2]["callbacks"][0]["task"] == "probe.effect"
    assert TaskRun.objects.count() == 2


def test_whole_seconds_of_expiry_stand_in_the_admin(code: Any, scheduler: LedgerScheduler) -> None:
    code["mine"] = entry(options={"expires": 60})
    scheduler.setup_schedule()
    assert PeriodicTask.objects.get().expire_seconds == 60
    PeriodicTask.objects.update(expire_seconds=120, last_run_at=timezone.now() - LONG_AGO)
    a_round(scheduler)
    run = TaskRun.objects.get()
    assert run.expires_at is not None
    assert (run.expires_at - run.created_at).total_seconds() == pytest.approx(120, abs=1), "the admin's edit holds"


def test_relative_is_kept_from_the_code(code: Any, scheduler: LedgerScheduler) -> None:
    code["mine"] = entry(schedule=3600, relative=True)
    scheduler.setup_schedule()
    assert scheduler.schedule["mine"].schedule.relative
