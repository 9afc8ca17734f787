"""Odd schedules: in django-celery-beat's tables, and (when beat starts) in the code."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable
from typing import Any

from django.core.exceptions import AppRegistryNotReady
from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, kind
from tests.odd.kinds.options import MOMENTS, NUMBERS, TEXTS
from tests.odd.values import make, values

KEPT = 12
"""Odd schedules in the table at a time: the oldest go first."""
JSON_TEXTS = [
    "", "[]", "{}", "[", "null", "5", '"text"', "[NaN]", "[Infinity]",
    '["\\ud83d"]', '["\\u0000"]', '{"a": 1}', "[" * 3000,
    "[" * 500 + "]" * 500, '[{"__type__": "money", "__value__": "1.50"}]', "{1: 2}", '{"a": NaN}', "[1e999]",
]  # fmt: skip
CRONTABS = [
    {"minute": "*/0"}, {"minute": "61"}, {"minute": "-1"}, {"minute": ""}, {"minute": "5-1"}, {"minute": "a"},
    {"hour": "25"}, {"day_of_month": "31", "month_of_year": "2"}, {"day_of_month": "0"}, {"month_of_year": "13"},
    {"day_of_week": "8"}, {"minute": "*/99999999999"}, {"minute": "0," * 40 + "0"}, {"timezone": "Asia/Nowhere"},
    {"minute": "1-59/0"}, {"minute": "*", "timezone": "Europe/Berlin"},
]  # fmt: skip
FIELDS: dict[str, list[Any]] = {
    "args": JSON_TEXTS, "kwargs": JSON_TEXTS, "headers": JSON_TEXTS,
    "name": ["", "n" * 200, "n" * 201, "\x00", "a\nb"],
    "task": ["", "no.such.task", "t" * 200, "t" * 201, "a\x00", "odd.step"],
    "queue": ["", "no-such-queue", "q" * 200, " "], "exchange": ["no-such"], "routing_key": ["no-such"],
    "priority": [-1, 0, 255, 256, 40_000, "first"], "one_off": [True], "expire_seconds": [0, 1, 2**31 - 1, 2**31, -1],
    "expires": ["9999", "1", "1969", "naive 9999"], "start_time": ["9999", "1", "naive 1", "far zone"],
    "last_run_at": ["9999", "1", "1969"], "total_run_count": [-1, 2**31 - 1],
}  # fmt: skip


def _every_second() -> Any:
    """There may be several: nothing in the table forbids that."""
    from django_celery_beat.models import IntervalSchedule

    return IntervalSchedule.objects.filter(every=1, period="seconds").first()


def _add(name: str, **fields: Any) -> None:
    """A schedule of every second unless it says otherwise; the oldest odd ones make room for it."""
    from django_celery_beat.models import PeriodicTask, PeriodicTasks

    odd = PeriodicTask.objects.filter(description="odd").order_by("-pk")
    old = odd.filter(pk__in=list(odd.values_list("pk", flat=True)[KEPT:]))
    # Python cannot read every time that such a row has, so the rows are not loaded.
    old._raw_delete(old.db)
    if not {"interval", "crontab", "solar", "clocked"} & fields.keys():
        fields["interval"] = _every_second()
    values = {"name": name, "task": "odd.step", "description": "odd"} | fields
    # As bulk_create or SQL would: none of the model's checks.
    PeriodicTask.objects.bulk_create([PeriodicTask(**values)])
    PeriodicTasks.update_changed()


class _OfTable(Kind):
    also_refused = ("DataError", "IntegrityError", "ValidationError", "OverflowError", "OperationalError")
    """What the table itself does not take is never a schedule. Two callers that edit schedules may deadlock."""

    def call(self, case: Case, record: Record) -> None:
        from django.db import transaction

        with transaction.atomic():
            self.add(case)

    def add(self, case: Case) -> None:
        raise NotImplementedError


@kind
class ScheduleFields(_OfTable):
    name = "schedule-field"
    weight = 5
    strategy = st.sampled_from([[name, value] for name, values_ in FIELDS.items() for value in values_])

    def add(self, case: Case) -> None:
        name, value = case.drawn
        if name in ("expires", "start_time", "last_run_at"):
            value = MOMENTS[value]()
        elif name == "name" and len(value) > 150:
            value = f"{case.call}{value}"[: len(value)]
        _add(**{"name": case.call, name: value})


@kind
class ScheduleTimes(_OfTable):
    """Intervals, crontabs, the sun and fixed times that are none."""

    name = "schedule-time"
    weight = 5
    strategy = st.one_of(
        st.tuples(
            st.just("interval"), st.sampled_from([0, -1, 1, 2**31 - 1]),
            st.sampled_from(["seconds", "microseconds", "days", "no-such", ""]),
        ).map(list),
        st.sampled_from(CRONTABS).map(lambda fields: ["crontab", fields]),
        st.tuples(
            st.just("solar"), st.sampled_from(["sunrise", "no_such", "solar_noon"]),
            st.sampled_from(["0", "90", "-90", "91", "NaN"]), st.sampled_from(["0", "181", "NaN"]),
        ).map(list),
        st.sampled_from(["9999", "1", "1969", "naive now"]).map(lambda moment: ["clocked", moment]),
        st.just(["none"]), st.just(["two"]),
    )  # fmt: skip

    def add(self, case: Case) -> None:
        from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

        form, *drawn = case.drawn
        if form == "interval":
            made = IntervalSchedule.objects.bulk_create([IntervalSchedule(every=drawn[0], period=drawn[1])])[0]
            _add(case.call, interval=made)
        elif form == "crontab":
            _add(case.call, crontab=CrontabSchedule.objects.bulk_create([CrontabSchedule(**drawn[0])])[0])
        elif form == "solar":
            made = SolarSchedule(event=drawn[0], latitude=drawn[1], longitude=drawn[2])
            _add(case.call, solar=SolarSchedule.objects.bulk_create([made])[0])
        elif form == "clocked":
            made = ClockedSchedule.objects.bulk_create([ClockedSchedule(clocked_time=MOMENTS[drawn[0]]())])[0]
            _add(case.call, clocked=made, one_off=False)
        elif form == "none":
            _add(case.call, interval=None)
        else:
            crontab = CrontabSchedule.objects.create(minute="*")
            _add(
                case.call,
                interval=_every_second(),
                crontab=crontab,
            )


# ---- In the code -----------------------------------------------------------------------------------------------------
SCHEDULES: dict[str, Callable[[], Any]] = {
    "second": lambda: 1.0, "half": lambda: 0.5, "zero": lambda: 0, "negative": lambda: -5, "text": lambda: "every day",
    "nan": lambda: float("nan"), "inf": lambda: float("inf"), "none": lambda: None, "tiny": lambda: 1e-9,
    "delta": lambda: datetime.timedelta(seconds=1), "delta 0": lambda: datetime.timedelta(0),
    "delta max": lambda: datetime.timedelta.max, "delta min": lambda: datetime.timedelta(microseconds=1),
    "delta negative": lambda: datetime.timedelta(seconds=-1), "list": lambda: [1], "huge": lambda: 10**400,
    "crontab": lambda: _crontab(minute="*"), "crontab of texts": lambda: _crontab(minute="*/1"), "bool": lambda: True,
    "function": lambda: _crontab, "class": lambda: datetime.timedelta,
}  # fmt: skip
OPTIONS = {
    "priority": NUMBERS, "countdown": NUMBERS, "expires": NUMBERS | MOMENTS, "queue": TEXTS, "time_limit": NUMBERS,
    "headers": TEXTS, "eta": MOMENTS, "task_id": TEXTS, "no_such": TEXTS, "shadow": TEXTS, "serializer": TEXTS,
}  # fmt: skip


def _crontab(**fields: Any) -> Any:
    from celery.schedules import crontab

    return crontab(**fields)


@st.composite
def code_entry(draw: Any) -> dict[str, Any]:
    """What one entry of ``beat_schedule`` is made of."""
    part = draw(st.sampled_from(["name", "schedule", "args", "kwargs", "option", "task", "more", "none"]))
    entry: dict[str, Any] = {"part": part}
    if part == "option":
        option = draw(st.sampled_from(sorted(OPTIONS)))
        entry |= {"option": option, "value": draw(st.sampled_from(sorted(OPTIONS[option])))}
    elif part in ("args", "kwargs", "more"):
        entry["value"] = draw(values)
    elif part in ("task", "name"):
        entry["value"] = draw(st.sampled_from(sorted(TEXTS)))
    else:
        entry["value"] = draw(st.sampled_from(sorted(SCHEDULES)))
    return entry


def code_schedule(entries: list[dict[str, Any]]) -> dict[Any, Any]:
    """``beat_schedule`` of what was drawn."""
    made: dict[Any, Any] = {}
    for number, drawn in enumerate(entries):
        name: Any = f"odd in code {number}"
        # Not every second: 40 of them would be more calls than two cores can do, for as long as the run lasts.
        entry: Any = {"task": "odd.step", "schedule": 20.0}
        match drawn["part"]:
            case "name":
                name = TEXTS[drawn["value"]]()
                if not isinstance(name, str | int | bytes):
                    name = "n" * 201
            case "schedule":
                entry["schedule"] = SCHEDULES[drawn["value"]]()
            case "task":
                entry["task"] = TEXTS[drawn["value"]]()
            case "option":
                entry["options"] = {drawn["option"]: OPTIONS[drawn["option"]][drawn["value"]]()}
            case "none":
                entry = None
            case part:
                # Django has loaded no model when a project's celery.py is read, so none can stand there.
                with contextlib.suppress(AppRegistryNotReady):
                    entry[part] = make(drawn["value"])
        made[name] = entry
    return made


@kind
class Admins(Kind):
    """A schedule that an admin edits and switches off while it fires."""

    name = "schedule-edit"
    weight = 2
    strategy = st.sampled_from([["off"], ["delete"], ["args"], ["move"]])

    def call(self, case: Case, record: Record) -> None:
        from django_celery_beat.models import PeriodicTask, PeriodicTasks

        _add(case.call)
        mine = PeriodicTask.objects.filter(name=case.call)
        if case.drawn == ["off"]:
            mine.update(enabled=False)
        elif case.drawn == ["delete"]:
            mine.delete()
        elif case.drawn == ["args"]:
            mine.update(args=json.dumps(["x" * 1000]))
        else:
            mine.update(last_run_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
        PeriodicTasks.update_changed()

    def expected(self, case: Case) -> Expected:
        return Expected(refused=False)
