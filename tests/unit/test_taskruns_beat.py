"""Beat outlives any single schedule: what is wrong with one is told, and the others fire on."""

import datetime
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab
from celery.schedules import schedule as interval
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)  # fmt: skip

from app.celery import app
from app.taskruns.beat import LedgerScheduler
from app.taskruns.models import BrokenSchedule, TaskRun
from tests.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)

ARGS = '["/dev/null", "x"]'
LONG_AGO = datetime.timedelta(hours=1)


@pytest.fixture
def code(settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The schedules of the code: none but these."""
    found: dict[Any, Any] = {}
    settings.CELERY_BEAT_SCHEDULE = {}
    monkeypatch.setattr(app.conf, "beat_schedule", found)
    return found


@pytest.fixture
def scheduler(code: Any) -> LedgerScheduler:
    return LedgerScheduler(app=app, lazy=True)


def row(name: str, every: int = 10, **fields: Any) -> PeriodicTask:
    """A schedule that is due."""
    every_ten = IntervalSchedule.objects.get_or_create(every=every, period="seconds")[0]
    fields = {"task": "probe.effect", "args": ARGS, "interval": every_ten, **fields}
    made = PeriodicTask.objects.create(name=name, **fields)
    PeriodicTask.objects.filter(pk=made.pk).update(last_run_at=timezone.now() - LONG_AGO)
    return PeriodicTask.objects.get(pk=made.pk)


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    PeriodicTasks.update_changed()


def a_round(scheduler: LedgerScheduler) -> None:
    """Until nothing is due; never so many that it spins."""
    for _ in range(30):
        if scheduler.tick() > 0:
            return
    raise AssertionError("it spins")


def fired(name: str) -> int:
    return sum(
        f'"periodic_task_name": "{name}"' in headers for headers in TaskRun.objects.values_list("headers", flat=True)
    )


def marks() -> dict[str, str]:
    return dict(BrokenSchedule.objects.values_list("name", "error"))


def entry(**fields: Any) -> dict[str, Any]:
    return {"task": "probe.effect", "schedule": 10, "args": ("/dev/null", "x"), **fields}


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError("no words")


# ---- Rows ------------------------------------------------------------------------------------------------------------

T = "django_celery_beat_periodictask"
INTERVALS = "django_celery_beat_intervalschedule"
BROKEN_ROWS: dict[str, tuple[str, str]] = {
    "args that are no JSON": (f"UPDATE {T} SET args = 'x' WHERE name = 'odd'", "args is no JSON"),
    "args that are no list": (f"""UPDATE {T} SET args = '{{"a": 1}}' WHERE name = 'odd'""", "args is JSON of a dict"),
    "args that are a number": (f"UPDATE {T} SET args = '5' WHERE name = 'odd'", "args is JSON of a int"),
    "args that are null": (f"UPDATE {T} SET args = 'null' WHERE name = 'odd'", "args is JSON of a NoneType"),
    "args deeper than any": (f"UPDATE {T} SET args = repeat('[', 100000) WHERE name = 'odd'", "args is no JSON"),
    "args that do not decode": (
        f"""UPDATE {T} SET args = '[{{"__type__": "uuid", "__value__": "x"}}]' WHERE name = 'odd'""",
        "args is no JSON"),
    "kwargs that are no dict": (f"UPDATE {T} SET kwargs = '[1]' WHERE name = 'odd'", "kwargs is JSON of a list"),
    "kwargs that are no JSON": (f"UPDATE {T} SET kwargs = '{{' WHERE name = 'odd'", "kwargs is no JSON"),
    "headers that are no dict": (f"UPDATE {T} SET headers = '[]' WHERE name = 'odd'", "headers is JSON of a list"),
    "headers that are no JSON": (f"UPDATE {T} SET headers = 'NUL' WHERE name = 'odd'", "headers is no JSON"),
    "an undeclared queue": (f"UPDATE {T} SET queue = 'nowhere' WHERE name = 'odd'", "no queue 'nowhere'"),
    "an undeclared exchange": (f"UPDATE {T} SET exchange = 'nowhere' WHERE name = 'odd'", "nowhere"),
    "a priority out of range": (f"UPDATE {T} SET priority = 40000 WHERE name = 'odd'", "priority=40000"),
    "no schedule at all": (f"UPDATE {T} SET interval_id = NULL WHERE name = 'odd'", "no interval, crontab"),
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
        f"UPDATE {INTERVALS} SET period = 'moons' WHERE every = 77", "no period"),
    "a last run at infinity": (f"UPDATE {T} SET last_run_at = 'infinity' WHERE name = 'odd'", "DataError"),
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


BROKEN_CRONTABS = {
    "an hour that is none": ("hour", "25", "25 > 23"),
    "a minute in words": ("minute", "soon", "'soon'"),
    "a step of 0": ("minute", "*/0", ""),
    "a day that never comes": ("day_of_month", "31", "never occurs"),
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
    sql(f"UPDATE {T} SET args = 'x'")
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
    sql(f"UPDATE {T} SET args = 'x'")
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


# ---- Calls -----------------------------------------------------------------------------------------------------------


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
                cursor.execute(f"UPDATE {T} SET interval_id = 0 WHERE name = 'odd'")
        return plain(self, entry, *args, **kwargs)

    monkeypatch.setattr(LedgerScheduler, "apply_async", call)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert fired("odd") == 0
    assert "IntegrityError" in marks()["odd"]


def test_a_row_that_cannot_even_be_moved_on(scheduler: LedgerScheduler) -> None:
    """The count of its runs is the largest number that the column holds."""
    row("odd"), row("the neighbour")
    sql(f"UPDATE {T} SET total_run_count = 2147483647 WHERE name = 'odd'")
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


# ---- The code's ------------------------------------------------------------------------------------------------------

BROKEN_CODE: dict[str, tuple[Any, Any, str]] = {
    "a name that is too long": ("n" * 201, entry(), "its name has 201 characters"),
    "a name with NUL": ("a\0b", entry(), "NUL"),
    "a name with half a letter": ("a\ud83d", entry(), "surrogates"),
    "a name that is no text": (5, entry(), "a text for its name"),
    "no name": (None, entry(), "a text for its name"),
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
    "another serializer": ("odd", entry(options={"serializer": "pickle"}), "tasks are sent as JSON"),
    "a connection": ("odd", entry(options={"connection": object()}), "no option of a schedule"),
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


# ---- Meanwhile -------------------------------------------------------------------------------------------------------


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
    from app.taskruns.beat_entry import read_schedules

    row("odd"), row("one")
    sql(f"UPDATE {T} SET last_run_at = 'infinity' WHERE name = 'odd'")
    with transaction.atomic():
        read = {one.name: one.error is None for one in read_schedules(PeriodicTask.objects.order_by("name"))}
        assert PeriodicTask.objects.count() == 2
    assert read == {"odd": False, "one": True}
