"""Crontabs by the clock on the wall, in zones where that clock is put forward and back.

Where it is put back, a time comes twice. A crontab whose hour or minute begins with a star (``*``, ``*/5``) fires both
times, so it never stands still; one for a certain time of day fires at the first. Where it is put forward, a time of
day that does not come counts from the offset before the change: a daily 02:30 fires at 03:30, once. That is as RFC 5545
has it for calendars, and as cron does for its stars.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from django_celery_beat.tzcrontab import TzAwareCrontab

NEAR = datetime.timedelta(hours=26)
"""How far around a moment clock changes matter to it: a day, and some hours that a zone may jump."""
NONE = datetime.timedelta(0)


class ZonedCrontab(TzAwareCrontab):  # type: ignore[misc]  # without types
    """django-celery-beat's, whose next run is right when clocks change."""

    def remaining_estimate(self, last_run_at: datetime.datetime, *_: Any, **__: Any) -> datetime.timedelta:
        """Time until the first run after that moment, which has a zone. Raises OverflowError where none comes."""
        now: datetime.datetime = self.now()
        return next_run(self, last_run_at) - now.astimezone(datetime.UTC)


def next_run(cron: Any, after: datetime.datetime) -> datetime.datetime:
    """The first moment of the crontab after another one, in UTC. Raises OverflowError where there is none."""
    after = after.astimezone(datetime.UTC)
    while True:
        offsets = [(after + by).astimezone(cron.tz).utcoffset() or NONE for by in (-NEAR, NONE, NEAR)]
        change = max(offsets) - min(offsets)
        local = after.astimezone(cron.tz).replace(tzinfo=None)
        best = None
        wall = local
        for wall in _walls(cron, local - change):
            if wall > (local + NEAR + change if best is None else best[0] + 2 * change):
                break
            for moment in _moments(cron, wall):
                if moment > after and (best is None or moment < best[1]):
                    best = wall, moment
        if best is not None:
            return best[1]
        # Nothing within that time; and all that is told of the next one is its wall.
        after = max(after + NEAR, wall.replace(tzinfo=cron.tz).astimezone(datetime.UTC) - NEAR)


def _walls(cron: Any, start: datetime.datetime) -> Iterator[datetime.datetime]:
    """The times on the wall that it names, from one on, in their order."""
    hours, minutes = sorted(cron.hour), sorted(cron.minute)
    day, floor = start.date(), (start.hour, start.minute)
    while True:
        if day.month not in cron.month_of_year:
            day = (day.replace(day=28) + datetime.timedelta(days=4)).replace(day=1)
            floor = (0, 0)
            continue
        if day.day in cron.day_of_month and day.isoweekday() % 7 in cron.day_of_week:
            for hour in hours:
                if hour < floor[0]:
                    continue
                for minute in minutes:
                    if (hour, minute) >= floor:
                        yield datetime.datetime.combine(day, datetime.time(hour, minute))
        day += datetime.timedelta(days=1)
        floor = (0, 0)


def _moments(cron: Any, wall: datetime.datetime) -> tuple[datetime.datetime, ...]:
    """When it fires for a time on the wall: once, and twice or never where clocks change."""
    zoned = wall.replace(tzinfo=cron.tz)
    first, second = zoned.astimezone(datetime.UTC), zoned.replace(fold=1).astimezone(datetime.UTC)
    if first == second:
        return (first,)
    by_hours = _is_star(cron._orig_hour, cron.hour, 24)
    if first < second:
        return (first, second) if by_hours or _is_star(cron._orig_minute, cron.minute, 60) else (first,)
    return () if by_hours else (first,)


def _is_star(given: Any, parsed: set[int], most: int) -> bool:
    return str(given).startswith("*") or len(parsed) == most
