"""What a call is given is checked at the call: what cannot work is refused there, and nothing is stored."""

from __future__ import annotations

import datetime
import json
import math
import uuid
from typing import Any

import pytest
from celery import chord, group, signature
from django.db import transaction
from kombu.exceptions import EncodeError

from pressroom.enqueue.arguments import LONGEST_ID
from pressroom.models import TaskCall, TaskRun
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)

SURROGATE, NUL = "\ud83d", "a\x00b"


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    value: list[Any] = []
    value.append({"itself": value})
    return value


class Incomparable:
    """As a lazy text whose function fails."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]  # as of what defines __eq__ alone


@pytest.mark.parametrize(
    "arguments",
    [
        [nested(500)],
        [nested(100_000)],
        [circular()],
        [{"__type__": "money", "__value__": "1.50"}],
        [{"__type__": "uuid", "__value__": "none"}],
        [{1, 2}],
        [object()],
        [(number for number in range(3))],
        ["x" * 9_000_000],
        [10**5_000],
        [{(1, 2): 3}],
    ],
    ids=range(11),
)
def test_arguments_that_no_worker_could_read(arguments: list[Any]) -> None:
    calls = (
        lambda: tasks.effect.apply_async([*arguments, "line"]),
        lambda: tasks.effect.delay(path=arguments[0], line="line"),
    )
    for call in calls:
        with pytest.raises((EncodeError, ValueError)):
            call()
    assert not TaskRun.objects.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 40_000},
        {"priority": -101},
        {"priority": math.nan},
        {"priority": "urgent"},
        {"countdown": math.nan},
        {"countdown": math.inf},
        {"countdown": 1e300},
        {"countdown": "soon"},
        {"eta": datetime.datetime(9999, 12, 31, 23, 59, tzinfo=datetime.timezone(datetime.timedelta(hours=-12)))},
        {"eta": "9999-12-31T23:59:59"},
        {"eta": "tomorrow"},
        {"eta": 5},
        {"expires": math.nan},
        {"expires": -math.inf},
        {"expires": "9999-12-31T23:59:59"},
        {"expires": "never"},
        {"time_limit": math.nan},
        {"time_limit": -1},
        {"time_limit": "long"},
        {"time_limit": 10**400},
        {"soft_time_limit": math.inf},
        {"task_id": "ab" * 4_000},
        {"task_id": "x" * (LONGEST_ID + 1)},
        {"task_id": NUL},
        {"task_id": SURROGATE},
        {"task_id": 5},
        {"task_id": uuid.UUID(int=7)},
        {"root_id": NUL},
        {"parent_id": ["a"]},
        {"group_id": SURROGATE},
        {"shadow": 5},
        {"retries": "often"},
        {"headers": {"id": "another"}},
        {"headers": {"task": "another"}},
        {"headers": {"timelimit": "long"}},
        {"headers": {"timelimit": Incomparable()}},
        {"headers": {5: "number"}},
        {"headers": "text"},
        {"headers": {"deep": nested(500)}},
        {"stamped_headers": ["missing"]},
        {"link": "text"},
        {"link": {"task": "probe.effect"}},
        {"link": tasks.effect.si("nowhere", "a").set(task_id="ab" * 4_000)},
        {"link_error": tasks.effect.si("nowhere", "a").set(priority=40_000)},
        {"link": tasks.effect.si("nowhere", "a").set(countdown=math.nan)},
        {"link": group([tasks.effect.si("nowhere", "a").set(task_id=NUL)])},
        {"chord": signature("probe.effect", options={"task_id": NUL})},
    ],
    ids=lambda options: str(options)[:60],
)
def test_options_that_cannot_work(options: dict[str, Any]) -> None:
    """The caller's own work in the same transaction is not touched."""
    with transaction.atomic():
        tasks.effect.delay("nowhere", "before")
        with pytest.raises((ValueError, TypeError, EncodeError)):
            tasks.effect.apply_async(["nowhere", "odd"], **options)
        tasks.effect.delay("nowhere", "after")
    assert {run.arguments[0][1] for run in TaskRun.objects.all()} == {"before", "after"}


def test_a_name_that_no_page_can_show() -> None:
    from app.celery import app

    for name in (NUL, SURROGATE, "x" * 300):
        with pytest.raises(ValueError, match="task"):
            app.send_task(name)
    assert not TaskRun.objects.exists()


@pytest.mark.parametrize("bad", [{"task_id": NUL}, {"priority": 40_000}], ids=str)
def test_a_chord_one_part_of_which_cannot_work_stores_none(bad: dict[str, Any]) -> None:
    parts = [tasks.effect.si("nowhere", "a"), tasks.effect.si("nowhere", "b").set(**bad)]
    with pytest.raises(ValueError, match=r"id|priority"):
        chord(parts)(tasks.effect.si("nowhere", "body"))
    assert not TaskRun.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [[nested(90)], [SURROGATE], [NUL], [math.nan], [""], [[]], ["\u202e\x1b[31m"], [2**70], ["x" * 2_000_000]],
    ids=range(9),
)
def test_odd_arguments_that_work_come_as_they_are(arguments: list[Any]) -> None:
    run = TaskRun.of(tasks.effect.apply_async([*arguments, "line"]))
    assert repr(run.arguments[0]) == repr([*arguments, "line"])


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"eta": "0001-01-01T00:00:00"}, -86_400),
        ({"eta": "2020-01-01"}, -86_400),
        ({"countdown": -5}, -5),
        ({"countdown": 0}, 0),
        ({"eta": "2020-01-01T00:00:00+14:00"}, -86_400),
    ],
    ids=str,
)
def test_what_is_long_past_is_due_at_once_and_a_day_old_at_most(options: dict[str, Any], seconds: float) -> None:
    run = TaskRun.of(tasks.effect.apply_async(["nowhere", "a"], **options))
    assert (run.run_at - run.created_at).total_seconds() == pytest.approx(seconds, abs=60)


@pytest.mark.parametrize("given", ["datetime", "text"])
def test_the_earliest_time_of_a_zone_is_long_past_too(given: str) -> None:
    """Celery cannot subtract it from another time."""
    from app.celery import app

    earliest: Any = datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=23)))
    if given == "text":
        earliest = earliest.isoformat()
    by_name = tasks.effect.apply_async(["nowhere", "a"], eta=earliest, expires=earliest)
    by_place = app.send_task(
        "probe.effect", ["nowhere", "a"], {}, None, earliest, None, None, None, None, None, earliest
    )
    for run in map(TaskRun.of, (by_name, by_place)):
        assert run.expires_at is not None
        for at in (run.run_at, run.expires_at):
            assert (at - run.created_at).total_seconds() == pytest.approx(-86_400, abs=60)


def test_options_of_send_task_may_be_given_by_their_places() -> None:
    from app.celery import app

    told = tasks.effect.si("nowhere", "told")
    before_link = [None] * 9
    app.send_task("probe.effect", ["nowhere", "a"], {}, *before_link, told)
    _, _, embed = json.loads(TaskCall.objects.get().body)
    assert [one["args"] for one in embed["callbacks"]] == [["nowhere", "told"]]
    with pytest.raises(TypeError, match="args twice"):
        app.send_task("probe.effect", ["nowhere", "a"], args=["nowhere", "b"])
    with pytest.raises(TypeError, match="without their names"):
        app.send_task("probe.effect", *[None] * 50)
    assert TaskRun.objects.count() == 1
