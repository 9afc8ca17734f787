"""Schedules: when they are to run next, whether they are late, and what may be done with them.

The rows are django-celery-beat's; beat reads them again when it is told that they have changed.
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
from pressroom.models import BrokenSchedule, TaskRun
from pressroom.operator_actions import NotPossible
from pressroom.text import carried

LATE_AFTER = 15.0
"""Seconds past its time from which a schedule counts as late; beat looks every 5."""
_ROWS = PeriodicTask.objects.all()
HALF_A_SECOND = datetime.timedelta(seconds=0.5)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule as the page shows it."""

    name: str
    row: Any
    """The PeriodicTask; None where the code's was never made, or its row cannot be read at all."""
    next_run_at: datetime.datetime | None = None
    """None while it is paused, where it is over, and where it is broken."""
    late_by: float = 0.0
    """Seconds past `next_run_at`; 0 within LATE_AFTER."""
    error: str = ""
    """Why beat has set it aside, or will."""

    @property
    def last_run_at(self) -> datetime.datetime | None:
        return self.row.last_run_at if self.row else None

    @property
    def when(self) -> str:
        """Its interval, crontab, solar event or clock in words; a dash where there is none that can be read."""
        try:
            return str(self.row.scheduler)
        except Exception:  # noqa: BLE001 - what is wrong with it stands in `error`
            return "–"


def schedules() -> list[Schedule]:
    """All of them by name, and those that have no row."""
    now = timezone.now()
    marks = {mark.name: mark.error for mark in BrokenSchedule.objects.order_by("stage")}
    found = [_as_schedule(read, marks.pop(read.name, ""), now) for read in read_schedules(_ROWS.order_by("name"))]
    return found + [Schedule(name, None, error=error) for name, error in sorted(marks.items())]


def _as_schedule(read: Read, mark: str, now: datetime.datetime) -> Schedule:
    if read.entry is None:
        return Schedule(read.name, read.row, error=mark or carried(read.error))
    next_run = _next_run(read.entry, now) if read.row.enabled else None
    late_by = (now - next_run).total_seconds() if next_run is not None else 0.0
    return Schedule(read.name, read.row, next_run, late_by if late_by > LATE_AFTER else 0.0, mark)


def _next_run(entry: LedgerEntry, now: datetime.datetime) -> datetime.datetime | None:
    """By beat's own reckoning; in the past where beat has not run it."""
    row = entry.model
    if (row.expires and row.expires <= now) or (row.one_off and row.total_run_count):
        return None
    if row.start_time and row.start_time > now:
        starts: datetime.datetime = row.start_time
        return starts
    remaining = entry.remaining()
    # To the second: the estimate was made some microseconds after `now`.
    return None if remaining is None else (now + remaining + HALF_A_SECOND).replace(microsecond=0)


def schedulable() -> list[str]:
    """Names of the tasks that a schedule may call: those of the code's schedules, and those that say so themselves."""
    in_code = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    return [task.name for task in our_tasks() if task.name in in_code or task.schedulable]


def schedule_run_now(*, row: Any, user: Any) -> TaskRun | None:
    """Call a schedule's task at once; its next run stays when it was. None for a task that leaves no run.

    Raises NotPossible for a task that no schedule may have, and for a schedule or a call that is refused.
    """
    tasks = {task.name: task for task in our_tasks()}
    if row.task not in tasks:
        raise NotPossible(f"There is no task {row.task}.")
    if row.task not in schedulable():
        raise NotPossible(f"{row.task} may not be scheduled: its code does not say `schedulable=True`.")
    try:
        entry = LedgerEntry(row, app=current_app)
        options = {name: value for name, value in entry.options.items() if name != "expires"}
        with transaction.atomic():
            result = tasks[row.task].apply_async(entry.args, entry.kwargs, **options)
            run = TaskRun.objects.filter(celery_id=result.id).first()
            _record(user, row, f"run now as {run.pk if run else result.id}")
    except Exception as error:
        if is_no_answer(error):
            raise
        raise NotPossible(f"It cannot be run: {carried(error)}") from error
    return run


def schedule_pause(*, row: Any, user: Any) -> None:
    """No more ticks until it is resumed; beat hears of it within seconds. Raises NotPossible where it is paused."""
    _switch(row, user, on=False)


def schedule_resume(*, row: Any, user: Any) -> None:
    """Ticks again, counted from now: what was missed is not made up for. Raises NotPossible where it is not paused."""
    _switch(row, user, on=True)


def _switch(row: Any, user: Any, *, on: bool) -> None:
    with transaction.atomic():
        # Not its `save`, which refuses rows that are wrong in something else: those above all are to be paused.
        switched = _ROWS.filter(pk=row.pk, enabled=not on).update(
            enabled=on, last_run_at=None, date_changed=timezone.now()
        )
        if not switched:
            raise NotPossible("It is not paused." if on else "It is paused already.")
        PeriodicTasks.update_changed()
        _record(user, row, "resumed" if on else "paused")


def _record(user: Any, row: Any, message: str) -> None:
    # By its name: the text of a row is also that of its crontab, which may be what is wrong with it.
    LogEntry.objects.create(
        user=user, content_type=ContentType.objects.get_for_model(PeriodicTask), object_id=row.pk,
        object_repr=row.name, action_flag=CHANGE, change_message=message,
    )  # fmt: skip
