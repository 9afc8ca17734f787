"""A schedule entry, checked when it is read.

Every error of a schedule is found before the schedule is due, and affects no other schedule.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any

from celery import current_app, schedules
from celery.schedules import schedstate
from django.conf import settings
from django.db.models import QuerySet
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry
from django_celery_beat.utils import NEVER_CHECK_TIMEOUT
from kombu.utils.json import loads

from pressroom.beat.crontab import ZonedCrontab
from pressroom.database.errors import is_no_answer
from pressroom.enqueue import arguments, unique_calls

SHORTEST = datetime.timedelta(milliseconds=10)
"""The shortest interval. With a shorter one, beat would do nothing else."""
MOST = 2**31 - 1
"""The largest value of an integer column."""
COLUMNS = {"queue", "exchange", "routing_key", "priority", "headers", "expire_seconds"}
"""The options of a call that have a column in the row."""
OURS = {"args", "kwargs", "producer", "publisher", "connection", "router"}
"""The options of a call that beat itself sets."""


def code_schedules(app: Any) -> dict[Any, Any]:
    """Return the schedules of the settings, updated with those of ``app.conf.beat_schedule``.

    Assigning ``app.conf.beat_schedule`` therefore removes no schedule of the settings. Raises ValueError if
    ``beat_schedule`` is not a mapping.
    """
    own = app.conf.beat_schedule
    if own is not None and not isinstance(own, Mapping):
        raise ValueError(f"beat_schedule must be a mapping of names to schedules, not {own!r}")
    return {**getattr(settings, "CELERY_BEAT_SCHEDULE", {}), **(own or {})}


class LedgerEntry(ModelEntry):  # type: ignore[misc]  # without types
    """A row of django-celery-beat, checked as a whole when it is read.

    Options that have no column in the row come from the code's schedule. If anything in the row is wrong, the
    constructor raises an error with a text for the operator, and writes nothing.
    """

    def __init__(self, model: Any, app: Any = None) -> None:
        self.app = app or current_app
        self.model, self.name, self.task = model, model.name, model.task
        self.seen: datetime.datetime | None = model.last_run_at
        self.changed: datetime.datetime = model.date_changed
        """``seen`` and ``changed`` are the row's values when it was read: a tick counts only if they still stand."""
        self.total_run_count = model.total_run_count
        code = _code_entry(self.app, model.name)
        self.schedule = _schedule(model, self.app, relative=bool(code.get("relative")))
        self.args = _parsed(model, "args", list)
        self.kwargs = _parsed(model, "kwargs", dict)
        headers = {**_parsed(model, "headers", dict), "periodic_task_name": model.name}
        self.options = {**_options_of_code(code), **_options_of_row(model), "headers": headers}
        arguments.encoded(self.task, [self.args, self.kwargs])
        _check_options(self.app, self.task, self.options)
        if not model.last_run_at:
            model.last_run_at = model.date_changed or self._default_now()
            if model.start_time:
                # A last run far in the past makes the schedule due as soon as its start time comes.
                model.last_run_at -= datetime.timedelta(days=365 * 30)
        self.last_run_at = model.last_run_at
        # Numbers that are too large, or a day that never comes, raise an error only when the schedule is evaluated.
        self.remaining()

    def remaining(self) -> datetime.timedelta | None:
        """Return the time until the schedule is due: negative once it is, None for a clock whose time has come."""
        left: datetime.timedelta | None = self.schedule.remaining_estimate(self._last())
        return left

    def _last(self) -> datetime.datetime:
        return self.last_run_at.astimezone(self.app.timezone)  # type: ignore[no-any-return]

    def is_due(self) -> schedstate:
        """Do as django-celery-beat does. Switch off a schedule that is over, unless it was edited meanwhile."""
        model, now = self.model, datetime.datetime.now(datetime.UTC)
        if not model.enabled:
            return schedstate(False, 5.0)
        if model.start_time is not None and now < model.start_time:
            return schedstate(False, math.ceil((model.start_time - now).total_seconds()))
        if model.expires is not None and model.expires <= now:
            return self._switch_off()
        if model.one_off and model.total_run_count > 0:
            return self._switch_off(total_run_count=0)
        due: schedstate = self.schedule.is_due(self._last())
        return due

    def _switch_off(self, **fields: Any) -> schedstate:
        self.model.enabled = False
        same = PeriodicTask.objects.filter(pk=self.model.pk, enabled=True, date_changed=self.changed)
        same.update(enabled=False, last_run_at=None, **fields)
        return schedstate(False, NEVER_CHECK_TIMEOUT)

    @classmethod
    def to_model_schedule(cls, given: Any) -> tuple[Any, str]:
        """Return the row for a schedule of the code. Raises TypeError or ValueError if ``given`` is not a schedule."""
        kinds = (int, float, datetime.timedelta, schedules.BaseSchedule)
        if isinstance(given, bool) or not isinstance(given, kinds):
            raise TypeError(f"schedule is {given!r}; use seconds, a timedelta, crontab(), solar() or clocked()")
        if isinstance(given, schedules.crontab):
            names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
            fields = {name: _cron_text(getattr(given, f"_orig_{name}")) for name in names}
            return _row(CrontabSchedule, **fields, timezone=given.tz), "crontab"
        if isinstance(given, int | float):
            given = datetime.timedelta(seconds=given)
        every = getattr(given, "run_every", given)
        if isinstance(every, datetime.timedelta):
            return _row(IntervalSchedule, **_periods(every)), "interval"
        found: tuple[Any, str] = super().to_model_schedule(given)
        return found

    @classmethod
    def _unpack_options(cls, **options: Any) -> dict[str, Any]:
        # Whole seconds go to a column of their own, where an operator can edit them in the admin.
        if options.get("expire_seconds") is None and type(options.get("expires")) is int:
            options["expire_seconds"] = options["expires"]
        columns: dict[str, Any] = super()._unpack_options(**options)
        return columns


@dataclasses.dataclass(frozen=True)
class Read:
    """A schedule as it was read."""

    name: str
    row: Any
    """The PeriodicTask. None if Django cannot load the row."""
    entry: LedgerEntry | None
    error: Exception | None
    """Why there is no entry."""


def read_schedules(rows: QuerySet[Any], app: Any = None) -> Iterator[Read]:
    """Yield every row. A row that cannot be read does not hide the others.

    Raises only errors that mean that Postgres did not answer.
    """
    rows = rows.select_related("interval", "crontab", "solar", "clocked")
    try:
        found = [(row.name, row) for row in rows]
    except Exception as error:
        if is_no_answer(error):
            raise
        found = [(name, key) for key, name in rows.values_list("pk", "name")]
    for name, row in found:
        read = row
        try:
            if not isinstance(row, PeriodicTask):
                read = None
                read = rows.get(pk=row)
            yield Read(name, read, LedgerEntry(read, app), None)
        except PeriodicTask.DoesNotExist:
            continue
        except Exception as error:
            if is_no_answer(error):
                raise
            yield Read(name, read, None, error)


def _row(model: Any, **fields: Any) -> Any:
    return model.objects.filter(**fields).first() or model.objects.create(**fields)


def _cron_text(given: Any) -> str:
    return str(given) if isinstance(given, int | str) else ",".join(map(str, sorted(given)))


def _periods(every: datetime.timedelta) -> dict[str, Any]:
    """Return an interval as the columns of a row.

    Fractions of a second are kept in intervals of up to 35 minutes, and rounded in longer ones.
    """
    _check_interval(every)
    microseconds = every // datetime.timedelta(microseconds=1)
    if microseconds % 1_000_000 and microseconds <= MOST:
        return {"every": microseconds, "period": IntervalSchedule.MICROSECONDS}
    return {"every": round(every.total_seconds()), "period": IntervalSchedule.SECONDS}


def _check_interval(every: datetime.timedelta) -> None:
    if every < SHORTEST:
        raise ValueError(f"an interval of {every.total_seconds()} s: the shortest is {SHORTEST.total_seconds()} s")


def _schedule(model: Any, app: Any, *, relative: bool) -> Any:
    row = model.scheduler
    if row is None:
        raise ValueError("it has no interval, crontab, solar event or clock")
    if isinstance(row, IntervalSchedule):
        try:
            every = datetime.timedelta(**{row.period: row.every})
        except TypeError:
            raise ValueError(f"{row.period!r} is not a valid period of an interval") from None
        _check_interval(every)
        return schedules.schedule(every, relative, nowfun=lambda: datetime.datetime.now(datetime.UTC), app=app)
    if isinstance(row, CrontabSchedule):
        return ZonedCrontab(
            row.minute, row.hour, row.day_of_week, row.day_of_month, row.month_of_year, tz=row.timezone, app=app
        )
    return row.schedule


def _parsed(model: Any, name: str, kind: type) -> Any:
    text = getattr(model, name)
    try:
        value = loads(text) if text else kind()
    except Exception as error:
        raise ValueError(f"{name} is not valid JSON: {error}") from error
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be the JSON of a {kind.__name__}, not of a {type(value).__name__}")
    return value


def _code_entry(app: Any, name: str) -> Mapping[str, Any]:
    try:
        entry = code_schedules(app).get(name)
    except ValueError:
        entry = None  # the scheduler reports the error
    return entry if isinstance(entry, Mapping) else {}


def _options_of_code(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have no column in the row. Raises ValueError if the options are not valid."""
    options = entry.get("options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"options must be a mapping with names as keys, not {options!r}")
    if refused := sorted(OURS & options.keys()):
        raise ValueError(f"a schedule cannot set the options {', '.join(refused)}")
    return {
        name: value
        for name, value in options.items()
        if name not in COLUMNS and not (name == "expires" and type(value) is int)
    }


def _options_of_row(model: Any) -> dict[str, Any]:
    given = {name: getattr(model, name) for name in ("queue", "exchange", "routing_key", "priority")}
    given["expires"] = model.expires or model.expire_seconds or None
    return {name: value for name, value in given.items() if value not in (None, "")}


def _check_options(app: Any, task: str, options: dict[str, Any]) -> None:
    """Check the options before the first call.

    Raises ValueError, TypeError, EncodeError or UndeclaredQueue for options that every call would refuse.
    """
    arguments.check_times(task, options.get("countdown"), options.get("eta"), options.get("expires"))
    arguments.check_time_limits(task, (options.get("time_limit"), options.get("soft_time_limit")))
    arguments.check_priority(task, options.get("priority"))
    arguments.encoded(task, options["headers"])
    for name in ("expires", "time_limit", "soft_time_limit"):
        if isinstance(options.get(name), int | float) and options[name] <= 0:
            raise ValueError(f"{name} is {options[name]!r}: no run could ever succeed")
    unique_calls.checked(app.tasks.get(task), task, options.get("unique"), options.get("unique_by"))
    if options.get("serializer") not in (None, "json"):
        raise ValueError(f"serializer is {options['serializer']!r}: tasks are always sent as JSON")
    app.amqp.router.expand_destination({k: options.get(k) for k in ("queue", "exchange", "routing_key")})
