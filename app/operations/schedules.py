"""Schedules: when they are to run next, whether they are late, and what may be done with them.

The rows are django-celery-beat's; beat reads them again when it is told that they have changed.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from celery import current_app
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from app.checks import our_tasks
from app.taskruns.actions import NotPossible
from app.taskruns.beat_entry import LedgerEntry
from app.taskruns.models import TaskRun

LATE_AFTER = 15.0
"""Seconds past its time from which a schedule counts as late; beat looks every 5."""
HALF_A_SECOND = datetime.timedelta(seconds=0.5)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule as the page shows it."""

    row: Any
    """The PeriodicTask."""
    last_run_at: datetime.datetime | None
    next_run_at: datetime.datetime | None
    """None while it is paused, and where it is over."""
    late_by: float
    """Seconds past `next_run_at`; 0 within LATE_AFTER."""


def schedules() -> list[Schedule]:
    """All of them by name."""
    now = timezone.now()
    rows = PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked").order_by("name")
    return [_as_schedule(row, now) for row in rows]


def _as_schedule(row: Any, now: datetime.datetime) -> Schedule:
    last = row.last_run_at
    next_run = _next_run(row, now) if row.enabled else None
    late_by = (now - next_run).total_seconds() if next_run is not None else 0.0
    return Schedule(row, last, next_run, late_by if late_by > LATE_AFTER else 0.0)


def _next_run(row: Any, now: datetime.datetime) -> datetime.datetime | None:
    """By beat's own reckoning; in the past where beat has not run it."""
    if row.scheduler is None or (row.expires and row.expires <= now) or (row.one_off and row.total_run_count):
        return None
    if row.start_time and row.start_time > now:
        starts: datetime.datetime = row.start_time
        return starts
    entry = LedgerEntry(row, app=current_app)
    last = entry.last_run_at.astimezone(current_app.timezone)
    remaining: datetime.timedelta = entry.schedule.remaining_estimate(last)
    # To the second: the estimate was made some microseconds after `now`.
    return (now + remaining + HALF_A_SECOND).replace(microsecond=0)


def schedule_run_now(*, row: Any, user: Any) -> TaskRun | None:
    """Call a schedule's task at once; its next run stays when it was. None for a task that leaves no run.

    Raises NotPossible for an unknown task.
    """
    tasks = {task.name: task for task in our_tasks()}
    if row.task not in tasks:
        raise NotPossible(f"There is no task {row.task}.")
    entry = LedgerEntry(row, app=current_app)
    options = {name: value for name, value in entry.options.items() if name != "expires"}
    with transaction.atomic():
        result = tasks[row.task].apply_async(entry.args, entry.kwargs, **options)
        run = TaskRun.objects.filter(celery_id=result.id).first()
        _record(user, row, f"run now as {run.pk if run else result.id}")
    return run


def schedule_pause(*, row: Any, user: Any) -> None:
    """No more ticks until it is resumed; beat hears of it within seconds. Raises NotPossible where it is paused."""
    _switch(row, user, on=False)


def schedule_resume(*, row: Any, user: Any) -> None:
    """Ticks again, counted from now: what was missed is not made up for. Raises NotPossible where it is not paused."""
    _switch(row, user, on=True)


def _switch(row: Any, user: Any, *, on: bool) -> None:
    with transaction.atomic():
        row = PeriodicTask.objects.select_for_update().get(pk=row.pk)
        if row.enabled == on:
            raise NotPossible("It is not paused." if on else "It is paused already.")
        row.enabled = on
        # Its `save` forgets the last run of what is paused, and tells beat.
        row.save()
        _record(user, row, "resumed" if on else "paused")


def _record(user: Any, row: Any, message: str) -> None:
    LogEntry.objects.log_actions(user.pk, [row], CHANGE, change_message=message, single_object=True)
