"""Beat outlives any single row: what is wrong with one is told, and the others fire on."""

import logging

import celery
import pytest
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)  # fmt: skip

from app.celery import app
from pressroom.beat.scheduler import LedgerScheduler
from pressroom.models import BrokenSchedule
from tests.unit.pressroom.beat.schedules import ARGS, TABLE, a_round, fired, marks, row, sql

pytestmark = pytest.mark.django_db(transaction=True)

INTERVALS = "django_celery_beat_intervalschedule"
BROKEN_ROWS: dict[str, tuple[str, str]] = {
    "args that are no JSON": (f"UPDATE {TABLE} SET args = 'x' WHERE name = 'odd'", "args is not valid JSON"),
    "args that are no list": (f"""UPDATE {TABLE} SET args = '{{"a": 1}}' WHERE name = 'odd'""", "not of a dict"),
    "args that are a number": (f"UPDATE {TABLE} SET args = '5' WHERE name = 'odd'", "a list, not of a int"),
    "args that are null": (f"UPDATE {TABLE} SET args = 'null' WHERE name = 'odd'", "a list, not of a NoneType"),
    "args deeper than any": (f"UPDATE {TABLE} SET args = repeat('[', 100000) WHERE name = 'odd'", "not valid JSON"),
    "args that do not decode": (
        f"""UPDATE {TABLE} SET args = '[{{"__type__": "uuid", "__value__": "x"}}]' WHERE name = 'odd'""",
        "args is not valid JSON"),
    "kwargs that are no dict": (f"UPDATE {TABLE} SET kwargs = '[1]' WHERE name = 'odd'", "a dict, not of a list"),
    "kwargs that are no JSON": (f"UPDATE {TABLE} SET kwargs = '{{' WHERE name = 'odd'", "kwargs is not valid JSON"),
    "headers that are no dict": (f"UPDATE {TABLE} SET headers = '[]' WHERE name = 'odd'", "a dict, not of a list"),
    "headers that are no JSON": (f"UPDATE {TABLE} SET headers = 'NUL' WHERE name = 'odd'", "headers is not valid JSON"),
    "an undeclared queue": (f"UPDATE {TABLE} SET queue = 'nowhere' WHERE name = 'odd'", "no queue 'nowhere'"),
    "an undeclared exchange": (f"UPDATE {TABLE} SET exchange = 'nowhere' WHERE name = 'odd'", "nowhere"),
    "a priority out of range": (f"UPDATE {TABLE} SET priority = 40000 WHERE name = 'odd'", "priority=40000"),
    "no schedule at all": (f"UPDATE {TABLE} SET interval_id = NULL WHERE name = 'odd'", "no interval, crontab"),
    "an interval of 0": (f"UPDATE {INTERVALS} SET every = 0 WHERE every = 77", "interval of 0.0 s"),
    "an interval before now": (
        f"UPDATE {INTERVALS} SET every = -5 WHERE every = 77", "interval of -5.0 s"),
    "an interval of a microsecond": (
        f"UPDATE {INTERVALS} SET every = 1, period = 'microseconds' WHERE every = 77", "1e-06 s"),
    "an interval that is too long": (
        f"UPDATE {INTERVALS} SET every = 2147483647, period = 'days' WHERE every = 77",
        "OverflowError"),
    "an interval longer than time": (
        f"UPDATE {INTERVALS} SET every = 900000000, period = 'days' WHERE every = 77",
        "OverflowError"),
    "an interval of moons": (
        f"UPDATE {INTERVALS} SET period = 'moons' WHERE every = 77", "not a valid period"),
    "a last run at infinity": (f"UPDATE {TABLE} SET last_run_at = 'infinity' WHERE name = 'odd'", "DataError"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_a_broken_row_is_marked_and_the_others_fire_on(
    scheduler: LedgerScheduler, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    statement, reason = BROKEN_ROWS[case]
    row("a neighbour before"), row("odd", every=77), row("the neighbour after")
    sql(statement)
    with caplog.at_level(logging.ERROR):
        a_round(scheduler)
        a_round(scheduler)
        scheduler._read_again()
        a_round(scheduler)
    assert fired("a neighbour before") == fired("the neighbour after") == 1
    assert fired("odd") == 0
    assert list(marks()) == ["odd"]
    assert reason in marks()["odd"]
    assert sum("odd is set aside" in record.getMessage() for record in caplog.records) == 1, "it is logged once"


NEVER = "never occurs" if celery.VERSION >= (5, 7) else "date value out of range"
BROKEN_CRONTABS = {
    "an hour that is none": ("hour", "25", "25 > 23"),
    "a minute in words": ("minute", "soon", "'soon'"),
    "a step of 0": ("minute", "*/0", ""),
    "a day that never comes": ("day_of_month", "31", NEVER),
    "an empty field": ("day_of_week", "", ""),
    "a zone that is none": ("timezone", "Mars/Olympus", "Mars"),
    "a zone with a way out": ("timezone", "../../etc/passwd", ""),
}


@pytest.mark.parametrize("case", BROKEN_CRONTABS)
def test_a_broken_crontab_is_marked_and_the_others_fire_on(scheduler: LedgerScheduler, case: str) -> None:
    field, value, reason = BROKEN_CRONTABS[case]
    cron = CrontabSchedule.objects.create(minute="*", hour="*", month_of_year="2" if "never" in case else "*")
    row("odd", interval=None, crontab=cron), row("a neighbour")
    sql(f"UPDATE django_celery_beat_crontabschedule SET {field} = %s", value)
    a_round(scheduler)
    assert fired("a neighbour") == 1
    assert list(marks()) == ["odd"]
    assert reason in marks()["odd"]


@pytest.mark.parametrize(
    "change", ["latitude = 'NaN'", "latitude = 91", "event = 'noon of the sun'"], ids=["NaN", "91 degrees", "an event"]
)
def test_a_broken_solar_event_is_marked_and_the_others_fire_on(scheduler: LedgerScheduler, change: str) -> None:
    sun = SolarSchedule.objects.create(event="sunrise", latitude=50, longitude=10)
    row("odd", interval=None, solar=sun), row("a neighbour")
    sql(f"UPDATE django_celery_beat_solarschedule SET {change}")
    a_round(scheduler)
    assert fired("a neighbour") == 1
    assert list(marks()) == ["odd"]


def test_a_clock_at_infinity_is_marked_and_the_others_fire_on(scheduler: LedgerScheduler) -> None:
    clock = ClockedSchedule.objects.create(clocked_time=timezone.now())
    row("odd", interval=None, clocked=clock, one_off=True), row("a neighbour")
    sql("UPDATE django_celery_beat_clockedschedule SET clocked_time = 'infinity'")
    a_round(scheduler)
    assert fired("a neighbour") == 1
    assert list(marks()) == ["odd"]


def test_the_mark_goes_when_the_schedule_works(scheduler: LedgerScheduler, caplog: pytest.LogCaptureFixture) -> None:
    odd = row("odd")
    sql(f"UPDATE {TABLE} SET args = 'x'")
    a_round(scheduler)
    assert list(marks()) == ["odd"]
    odd.args = ARGS
    odd.save()
    with caplog.at_level(logging.INFO):
        a_round(scheduler)
    assert fired("odd") == 1
    assert marks() == {}
    assert "the schedule odd works again" in caplog.text


@pytest.mark.parametrize("end", ["deleted", "paused"])
def test_the_mark_goes_with_the_schedule(scheduler: LedgerScheduler, end: str) -> None:
    odd = row("odd")
    sql(f"UPDATE {TABLE} SET args = 'x'")
    a_round(scheduler)
    assert marks()
    odd.delete() if end == "deleted" else PeriodicTask.objects.update(enabled=False)
    PeriodicTasks.update_changed()
    a_round(scheduler)
    assert marks() == {}


def test_another_beat_s_mark_is_taken_over(scheduler: LedgerScheduler) -> None:
    BrokenSchedule.objects.create(stage="row", name="gone", error="x", since=timezone.now())
    BrokenSchedule.objects.create(stage="code", name="gone", error="x", since=timezone.now())
    row("odd", queue="nowhere")
    a_round(scheduler)
    a_round(LedgerScheduler(app=app, lazy=True))
    assert list(marks()) == ["odd"]
