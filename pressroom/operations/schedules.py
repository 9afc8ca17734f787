"""Schedules: their next runs, their lateness, and the actions on them.

The rows are django-celery-beat's. Beat reads them again after each `PeriodicTasks.update_changed()`.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from celery import current_app
from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from pressroom.beat.entry import LedgerEntry, Read, read_schedules
from pressroom.checks import our_tasks
from pressroom.database.errors import is_no_answer
from pressroom.models import BrokenSchedule, SkippedTick, TaskRun
from pressroom.operator_actions import NotPossible
from pressroom.text import carried

LATE_AFTER = 15.0
"""Seconds past its next run after which a schedule counts as late. Beat looks every 5 s."""
_ROWS = PeriodicTask.objects.all()
HALF_A_SECOND = datetime.timedelta(seconds=0.5)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule as the page shows it."""

    name: str
    row: Any
    """The PeriodicTask. None if beat could not create it from the code, or if the row cannot be read at all."""
    next_run_at: datetime.datetime | None = None
    """None if the schedule is paused, over or broken."""
    late_by: float = 0.0
    """Seconds past `next_run_at`; 0 within LATE_AFTER."""
    error: str = ""
    """Why beat has set the schedule aside, or will set it aside."""
    skipped: SkippedTick | None = None
    """The ticks that called nothing, because the run before still stood."""

    @property
    def last_run_at(self) -> datetime.datetime | None:
        return self.row.last_run_at if self.row else None

    @property
    def when(self) -> str:
        """The interval, crontab, solar event or clock in words; a dash if it cannot be read."""
        try:
            return str(self.row.scheduler)
        except Exception:  # noqa: BLE001 - `error` describes what is wrong
            return "–"


def schedules() -> list[Schedule]:
    """Return all schedules by name, and after them those that have no row."""
    now = timezone.now()
    marks = {mark.name: mark.error for mark in BrokenSchedule.objects.order_by("stage")}
    skipped = {ticks.schedule: ticks for ticks in SkippedTick.objects.all()}
    found = [
        dataclasses.replace(_as_schedule(read, marks.pop(read.name, ""), now), skipped=skipped.get(read.name))
        for read in read_schedules(_ROWS.order_by("name"))
    ]
    return found + [Schedule(name, None, error=error) for name, error in sorted(marks.items())]


def _as_schedule(read: Read, mark: str, now: datetime.datetime) -> Schedule:
    if read.entry is None:
        return Schedule(read.name, read.row, error=mark or carried(read.error))
    next_run = _next_run(read.entry, now) if read.row.enabled else None
    late_by = (now - next_run).total_seconds() if next_run is not None else 0.0
    return Schedule(read.name, read.row, next_run, late_by if late_by > LATE_AFTER else 0.0, mark)


def _next_run(entry: LedgerEntry, now: datetime.datetime) -> datetime.datetime | None:
    """Return the next run as beat computes it. It lies in the past if beat is late."""
    row = entry.model
    if (row.expires and row.expires <= now) or (row.one_off and row.total_run_count):
        return None
    if row.start_time and row.start_time > now:
        starts: datetime.datetime = row.start_time
        return starts
    remaining = entry.remaining()
    # Rounded to the second, because the estimate was made some microseconds after `now`.
    return None if remaining is None else (now + remaining + HALF_A_SECOND).replace(microsecond=0)


def schedulable() -> list[str]:
    """Return the names of the tasks that a schedule may call.

    These are the tasks in the code's schedules, and those declared with `schedulable=True`.
    """
    in_code = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    return [task.name for task in our_tasks() if task.name in in_code or task.schedulable]


def schedule_run_now(*, row: Any, user: Any) -> TaskRun | None:
    """Call a schedule's task at once, and leave its next run as it was.

    Returns the run, or None if the task is not durable and leaves no run. Raises NotPossible if no schedule may call
    the task, or if the schedule or the call is refused.
    """
    tasks = {task.name: task for task in our_tasks()}
    if row.task not in tasks:
        raise NotPossible(f"The task {row.task} does not exist.")
    if row.task not in schedulable():
        raise NotPossible(f"{row.task} may not be scheduled: its code does not set `schedulable=True`.")
    try:
        entry = LedgerEntry(row, app=current_app)
        options = {name: value for name, value in entry.options.items() if name != "expires"}
        with transaction.atomic():
            result = tasks[row.task].apply_async(entry.args, entry.kwargs, **options)
            is_repeat = getattr(result, "repeated", False)
            run = TaskRun.objects.filter(celery_id=result.id).first()
            if not is_repeat:
                _record(user, row, f"run now as {run.pk if run else result.id}")
    except Exception as error:
        if is_no_answer(error):
            raise
        raise NotPossible(f"The schedule cannot be run: {carried(error)}") from error
    if is_repeat:
        raise NotPossible("Nothing was called, because an earlier call of its unique task still stands.")
    return run


def schedule_pause(*, row: Any, user: Any) -> None:
    """Stop the ticks until the schedule is resumed. Beat notices within seconds.

    Raises NotPossible if the schedule is already paused.
    """
    _switch(row, user, on=False)


def schedule_resume(*, row: Any, user: Any) -> None:
    """Start the ticks again, counted from now. Ticks missed during the pause are not made up for.

    Raises NotPossible if the schedule is not paused.
    """
    _switch(row, user, on=True)


def _switch(row: Any, user: Any, *, on: bool) -> None:
    with transaction.atomic():
        # An UPDATE, because `save` refuses rows with an error elsewhere, and those rows need to be paused most of all.
        switched = _ROWS.filter(pk=row.pk, enabled=not on).update(
            enabled=on, last_run_at=None, date_changed=timezone.now()
        )
        if not switched:
            raise NotPossible("The schedule is not paused." if on else "The schedule is already paused.")
        PeriodicTasks.update_changed()
        _record(user, row, "resumed" if on else "paused")


def _record(user: Any, row: Any, message: str) -> None:
    # The name, because `str(row)` includes the crontab, which may be what is broken.
    LogEntry.objects.create(
        user=user, content_type=ContentType.objects.get_for_model(PeriodicTask), object_id=row.pk,
        object_repr=row.name, action_flag=CHANGE, change_message=message,
    )  # fmt: skip
