"""Crontabs in local time, in zones where clocks are put forward and back.

When clocks are put back, a local time comes twice. A crontab whose hour or minute begins with a star (``*``, ``*/5``)
fires both times, and never pauses for an hour. A crontab for a fixed time of day fires at the first. When clocks are
put forward, a local time that is skipped counts from the offset before the change: a daily 02:30 fires at 03:30, once.
RFC 5545 defines the same for calendars, and cron does the same for its stars.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from django_celery_beat.tzcrontab import TzAwareCrontab

NEAR = datetime.timedelta(hours=26)
"""How far from a moment a clock change can affect it: a day, and the few hours that a zone may jump."""
NONE = datetime.timedelta(0)


class ZonedCrontab(TzAwareCrontab):  # type: ignore[misc]  # without types
    """django-celery-beat's crontab, with the right next run when clocks change."""

    def remaining_estimate(self, last_run_at: datetime.datetime, *_: Any, **__: Any) -> datetime.timedelta:
        """Return the time until the first run after ``last_run_at``, which must be aware.

        Raises OverflowError if no run follows.
        """
        now: datetime.datetime = self.now()
        return next_run(self, last_run_at) - now.astimezone(datetime.UTC)


def next_run(cron: Any, after: datetime.datetime) -> datetime.datetime:
    """Return the crontab's first moment after ``after``, in UTC. Raises OverflowError if no moment follows."""
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
        # No moment lies within NEAR. Of the next one only the local time is known, so continue shortly before it.
        after = max(after + NEAR, wall.replace(tzinfo=cron.tz).astimezone(datetime.UTC) - NEAR)


def _walls(cron: Any, start: datetime.datetime) -> Iterator[datetime.datetime]:
    """Yield the local times that the crontab names, in order, from ``start`` on."""
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
    """Return the moments at which the crontab fires for a local time: one; where clocks change, two or none."""
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
