"""What has ended in the last hour, day or week: throughput, waits and run times, over time and by task."""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Mapping

from django.utils import timezone

from pressroom.sql.figures import Number, missing_since, percentile, read

SHARES = (0.5, 0.95, 0.99)
MOST_TASKS = 50
"""How many tasks the page shows: those that ended most runs."""


@dataclasses.dataclass(frozen=True)
class Span:
    """A time up to now that a page shows, in steps of a minute or an hour."""

    key: str
    label: str
    title: str
    """What follows "the last"."""
    minutes: int
    """The length of a step."""
    steps: int
    begin: str
    """Its beginning in words."""

    @property
    def step(self) -> str:
        return "minute" if self.minutes == 1 else "hour"


SPANS = {
    span.key: span
    for span in (
        Span("1h", "1 hour", "hour", 1, 60, "60 min ago"),
        Span("24h", "24 hours", "24 hours", 60, 24, "24 h ago"),
        Span("7d", "7 days", "7 days", 60, 168, "7 d ago"),
    )
}


@dataclasses.dataclass(frozen=True)
class Spread:
    """Seconds within which half, 95 and 99 of a hundred runs are; None without a run."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: Mapping[int, int]) -> Spread:
        return cls(*(percentile(dict(histogram), share) for share in SHARES))


@dataclasses.dataclass(frozen=True)
class Step:
    """What ended in a minute or an hour. A wait is the time from due to the start of the last attempt."""

    at: datetime.datetime
    succeeded: int
    dead: int
    wait: Spread


@dataclasses.dataclass(frozen=True)
class TaskFigures:
    """What ended of a task in all of the time."""

    name: str
    succeeded: int
    dead: int
    other: int
    wait: Spread
    runtime: Spread

    @property
    def ended(self) -> int:
        return self.succeeded + self.dead + self.other


@dataclasses.dataclass(frozen=True)
class Past:
    """The figures of a span."""

    span: Span
    steps: list[Step]
    """The oldest first. The last one is not over yet."""
    tasks: list[TaskFigures]
    """Those that ended most runs first."""
    missing_since: datetime.datetime | None
    """Since when runs have not been counted, if there are more than are counted on the spot."""


def past(span: Span) -> Past:
    """Return the figures of the time up to now. The cost does not depend on the number of runs."""
    length = datetime.timedelta(minutes=span.minutes)
    now = timezone.now().astimezone(datetime.UTC)
    last = now.replace(second=0, microsecond=0, minute=now.minute if span.minutes == 1 else 0)
    times = [last - length * number for number in reversed(range(span.steps))]
    by_time: dict[datetime.datetime, list[Number]] = defaultdict(list)
    by_task: dict[str, list[Number]] = defaultdict(list)
    for number in read(span.minutes, times[0]):
        if number.at is not None:
            by_time[number.at.astimezone(datetime.UTC)].append(number)
        elif number.name is not None:
            by_task[number.name].append(number)
    steps = []
    for at in times:
        kinds = _by_kind(by_time[at])
        steps.append(Step(at, _sum(kinds["succeeded"]), _sum(kinds["dead"]), Spread.of(kinds["wait"])))
    tasks = [_of_task(name, _by_kind(numbers)) for name, numbers in by_task.items()]
    tasks.sort(key=lambda task: (-task.ended, task.name))
    return Past(span, steps, tasks[:MOST_TASKS], missing_since())


def _by_kind(numbers: list[Number]) -> dict[str, dict[int, int]]:
    kinds: dict[str, dict[int, int]] = defaultdict(dict)
    for number in numbers:
        kinds[number.kind][number.bucket] = number.number
    return kinds


def _sum(histogram: Mapping[int, int]) -> int:
    return sum(histogram.values())


def _of_task(name: str, kinds: dict[str, dict[int, int]]) -> TaskFigures:
    succeeded, dead, other = (_sum(kinds[kind]) for kind in ("succeeded", "dead", "other"))
    return TaskFigures(name, succeeded, dead, other, Spread.of(kinds["wait"]), Spread.of(kinds["runtime"]))
