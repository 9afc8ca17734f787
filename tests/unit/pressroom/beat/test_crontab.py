"""Crontabs on the days when clocks change: each of these is a whole simulated day, or more."""

import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab

from pressroom.beat.crontab import ZonedCrontab, next_run

UTC = datetime.UTC
HOUR = datetime.timedelta(hours=1)

NEW_YORK, BERLIN, LORD_HOWE, SEOUL = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Seoul"
AUTUMN = {NEW_YORK: (2026, 11, 1), BERLIN: (2026, 10, 25), LORD_HOWE: (2026, 4, 5)}
SPRING = {NEW_YORK: (2026, 3, 8), BERLIN: (2026, 3, 29), LORD_HOWE: (2026, 10, 4)}


def cron(zone: str, minute: Any = "*", hour: Any = "*", **fields: Any) -> ZonedCrontab:
    return ZonedCrontab(minute, hour, tz=ZoneInfo(zone), **fields)


def fired(schedule: ZonedCrontab, day: tuple[int, int, int], days: int = 1) -> list[datetime.datetime]:
    """All moments of a local day, as beat finds them: each is asked for by the last."""
    start = datetime.datetime(*day, tzinfo=schedule.tz).astimezone(UTC)
    date = datetime.date(*day) + datetime.timedelta(days=days)
    end = datetime.datetime(date.year, date.month, date.day, tzinfo=schedule.tz).astimezone(UTC)
    moment, found = start - datetime.timedelta(microseconds=1), []
    while (moment := next_run(schedule, moment)) < end:
        found.append(moment)
    return found


def on_the_wall(moments: list[datetime.datetime], zone: str) -> list[str]:
    return [moment.astimezone(ZoneInfo(zone)).strftime("%H:%M") for moment in moments]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [(zone, day, 24.5 if zone == LORD_HOWE else 25) for zone, day in AUTUMN.items()]
    + [(zone, day, 23.5 if zone == LORD_HOWE else 23) for zone, day in SPRING.items()]
    + [(SEOUL, (2026, 11, 1), 24), ("UTC", (2026, 11, 1), 24)],
)
@pytest.mark.parametrize("minute", ["*/5", "*", "1-59/2", "0,5,10,15,20,25,30,35,40,45,50,55"])
def test_every_few_minutes_is_every_few_minutes_all_day(zone: str, day: Any, hours: float, minute: str) -> None:
    every = {"*/5": 5, "*": 1, "1-59/2": 2}.get(minute, 5)
    moments = fired(cron(zone, minute), day)
    assert len(moments) == hours * 60 / every
    assert {later - earlier for earlier, later in pairwise(moments)} == {datetime.timedelta(minutes=every)}


@pytest.mark.parametrize(
    ("zone", "minute", "hour", "expected"),
    [
        # A certain time of day, once: at the first of the two.
        (NEW_YORK, "30", "1", ["05:30"]),
        (NEW_YORK, "0", "1", ["05:00"]),
        (NEW_YORK, "0,30", "1", ["05:00", "05:30"]),
        (NEW_YORK, "0", "2", ["07:00"]),
        (NEW_YORK, "30", "0,1,2", ["04:30", "05:30", "07:30"]),
        (BERLIN, "30", "2", ["00:30"]),
        (BERLIN, "0", "3", ["02:00"]),
        (LORD_HOWE, "45", "1", ["14:45"]),
        (LORD_HOWE, "15", "1", ["14:15"]),
        (LORD_HOWE, "0", "2", ["15:30"]),
        # What goes by hours or minutes comes in both.
        (NEW_YORK, "*/30", "1", ["05:00", "05:30", "06:00", "06:30"]),
        (NEW_YORK, "30", "*/1", None),
        (LORD_HOWE, "*/15", "1", ["14:00", "14:15", "14:30", "14:45", "15:00", "15:15"]),
    ],
)
def test_in_autumn_a_time_of_day_comes_once(zone: str, minute: str, hour: str, expected: list[str] | None) -> None:
    moments = fired(cron(zone, minute, hour), AUTUMN[zone])
    if expected is None:
        assert len(moments) == 25
    else:
        assert [moment.strftime("%H:%M") for moment in moments] == expected


@pytest.mark.parametrize(
    ("zone", "minute", "hour", "expected"),
    [
        # A time of day that does not come: an hour later by the clock, as far from midnight as ever.
        (NEW_YORK, "30", "2", ["03:30"]),
        (NEW_YORK, "0", "2", ["03:00"]),
        (NEW_YORK, "15,45", "2", ["03:15", "03:45"]),
        (NEW_YORK, "30", "2,3", ["03:30"]),
        (NEW_YORK, "30", "1,2,4", ["01:30", "03:30", "04:30"]),
        (NEW_YORK, "*/30", "2", ["03:00", "03:30"]),
        (BERLIN, "30", "2", ["03:30"]),
        (LORD_HOWE, "10", "2", ["02:40"]),
        (LORD_HOWE, "40", "2", ["02:40"]),
    ],
)
def test_in_spring_a_time_of_day_that_does_not_come_counts_from_the_offset_before(
    zone: str, minute: str, hour: str, expected: list[str]
) -> None:
    assert on_the_wall(fired(cron(zone, minute, hour), SPRING[zone]), zone) == expected


def test_each_hour_is_each_hour_that_comes() -> None:
    assert len(fired(cron(NEW_YORK, "30"), SPRING[NEW_YORK])) == 23
    assert len(fired(cron(NEW_YORK, "30"), AUTUMN[NEW_YORK])) == 25
    # The hour from 01:00 to 02:30 has one 10 past: the other is not on the clock.
    assert on_the_wall(fired(cron(LORD_HOWE, "10"), SPRING[LORD_HOWE]), LORD_HOWE)[:4] == [
        "00:10", "01:10", "03:10", "04:10"
    ]  # fmt: skip


def test_a_day_that_a_zone_leaves_out() -> None:
    """Samoa went from the 29th to the 31st of December 2011: two runs fall on the same moment, which is one."""
    moments = fired(cron("Pacific/Apia", "30", "12"), (2011, 12, 28), days=5)
    assert [moment.astimezone(ZoneInfo("Pacific/Apia")).day for moment in moments] == [28, 29, 31, 1]
    assert len(fired(cron("Pacific/Apia", "*/5"), (2011, 12, 29), days=3)) == 2 * 24 * 12


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN, LORD_HOWE, SEOUL, "UTC"])
@pytest.mark.parametrize(
    "fields",
    [
        {"minute": "30", "hour": "1"},
        {"minute": "0", "hour": "9", "day_of_week": "1-5"},
        {"minute": "15", "hour": "*/6", "day_of_month": "1,15"},
        {"minute": "0", "hour": "0", "day_of_month": "31", "month_of_year": "*/2"},
        {"minute": "59", "hour": "23", "day_of_month": "29", "month_of_year": "2"},
        {"minute": "0", "hour": "12", "day_of_month": "13", "day_of_week": "5"},
    ],
    ids=repr,
)
def test_it_is_celery_s_where_no_clock_changes(zone: str, fields: dict[str, Any]) -> None:
    """Held against Celery's own estimate over a year, where the days around are free of changes."""
    ours = cron(zone, **fields)
    moment = datetime.datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(60):
        found = next_run(ours, moment)
        theirs = crontab(**fields, nowfun=lambda at=moment: at.astimezone(ours.tz))  # type: ignore[misc]
        theirs.tz = ours.tz
        at = moment + theirs.remaining_estimate(moment.astimezone(ours.tz))
        around = {(found + by * 30 * HOUR).astimezone(ours.tz).utcoffset() for by in (-1, 0, 1)}
        if len(around) == 1:
            assert found == at
        moment = found


def test_the_29th_of_february_on_a_monday() -> None:
    moment = next_run(cron(BERLIN, "0", "0", day_of_month="29", month_of_year="2", day_of_week="1"),
                      datetime.datetime(2026, 1, 1, tzinfo=UTC))  # fmt: skip
    assert moment.astimezone(ZoneInfo(BERLIN)).date() == datetime.date(2044, 2, 29)


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN, LORD_HOWE, SEOUL])
def test_any_moment_leads_to_the_next_one(zone: str) -> None:
    """Beat asks from the time it fired, some milliseconds late: nothing comes twice, and nothing is left out."""
    schedule = cron(zone, "*/20", "0-3")
    days = (AUTUMN | SPRING).get(zone, (2026, 11, 1))
    moments = fired(schedule, days)
    for earlier, later in pairwise(moments):
        for late in (0.0, 0.003, 1.0, 59.0, 61.0):
            assert next_run(schedule, earlier + datetime.timedelta(seconds=late)) == later


def test_it_is_due_when_its_time_has_come(time_machine: Any) -> None:
    schedule = cron(NEW_YORK, "*/5")
    # The second 01:02 of the day.
    time_machine.move_to(datetime.datetime(2026, 11, 1, 6, 2, tzinfo=UTC), tick=False)
    last = datetime.datetime(2026, 11, 1, 5, 55, tzinfo=UTC)
    assert tuple(schedule.is_due(last)) == (True, 180.0)
    assert tuple(schedule.is_due(last + 5 * datetime.timedelta(minutes=1))) == (False, 180.0)
