"""The results of one task queue, percentiles, and the requirements on Pressroom compared to the other queues."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KEPT = 0.95
"""Share of an offered rate that must be reached, or the queue does not keep up."""
STOCK = "celery_acks_late"
"""The module of stock Celery in the requirements: with the settings that lose the least."""
COMPARED = (STOCK, "huey", "oban", "pressroom", "pressroom_bundles")
"""The modules that the requirements compare. They are measured several times in turn."""


@dataclass(frozen=True)
class Offered:
    """Calls at an offered rate (a second): how many were made and begun a second, and the wait from commit to start."""

    rate: float
    reached: float
    p50: float | None = None
    p99: float | None = None
    """Milliseconds, or None if no call began."""
    missing: int = 0
    """Calls that had not begun long after the last one."""

    @property
    def kept(self) -> bool:
        """Whether calls were made and begun as fast as they were offered."""
        return not self.missing and self.reached >= KEPT * self.rate


@dataclass
class Figures:
    """The results of one task queue. None: not measured or not possible. ``error`` says what ended it early."""

    title: str
    versions: dict[str, str] = field(default_factory=dict)
    slots: int | None = None
    tasks: int = 0
    turns: int = 1
    """If there were several, the figures of `TURNED` are their medians."""
    enqueue: float | None = None
    """Calls a second, each in its own transaction."""
    enqueue_many: float | None = None
    """Calls a second, all in one transaction, including its commit."""
    drained: float | None = None
    """Tasks a second, from the first effect to the last."""
    drained_with_start: float | None = None
    """Tasks a second from the start of the workers, with all tasks waiting at that time."""
    idle_p50: float | None = None
    idle_p99: float | None = None
    """Milliseconds from the commit to the first line of the task, at 20 calls a second."""
    half_rate: float | None = None
    """Calls a second that were reached when measuring the same at half of ``drained``."""
    half_p50: float | None = None
    half_p99: float | None = None
    curve: list[Offered] = field(default_factory=list)
    """The same at rising rates, up to the first that it does not keep up with."""
    cpu_workers: float | None = None
    """CPU seconds per 1,000 tasks, while the backlog is drained: those of the workers and their children."""
    cpu_beside: float | None = None
    """The same for processes beside the workers. Pressroom has a relay."""
    cpu_postgres: float | None = None
    cpu_redis: float | None = None
    others: float | None = None
    """Percent of the machine's processors that other processes took meanwhile. A high value makes the row worthless."""
    memory: float | None = None
    """MB (PSS) of the workers and their children, after the backlog."""
    kills: int | None = None
    not_done: int | None = None
    """Tasks without an effect after the kills, long after the last effect."""
    doubled: int | None = None
    """Effects of tasks that already had one."""
    error: str = ""

    @classmethod
    def loaded(cls, values: dict[str, Any]) -> Figures:
        """Return the results that ``dataclasses.asdict`` has written."""
        return cls(**values | {"curve": [Offered(**one) for one in values.get("curve", ())]})


TURNED = (
    "enqueue", "enqueue_many", "drained", "drained_with_start", "idle_p50", "idle_p99", "cpu_workers", "cpu_beside",
    "cpu_postgres", "cpu_redis", "others",
)  # fmt: skip


def medians(turns: Sequence[Figures]) -> Figures:
    """Return the results of the first turn, with the medians of all turns for the figures of `TURNED`."""
    found: dict[str, Any] = {}
    for name in TURNED:
        values = [value for one in turns if (value := getattr(one, name)) is not None]
        found[name] = statistics.median(values) if values else None
    error = next((one.error for one in turns if one.error), "")
    return dataclasses.replace(turns[0], turns=len(turns), error=error, **found)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed (nearest rank).

    Raises ValueError if there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def counted(numbers: Iterable[int], calls: Sequence[int]) -> tuple[int, int]:
    """Return how many of the calls have no effect, and how many effects are repetitions. Other effects are ignored."""
    called = set(calls)
    effects = [number for number in numbers if number in called]
    return len(called) - len(set(effects)), len(effects) - len(set(effects))


@dataclass(frozen=True)
class Asked:
    """A requirement that a value is at least, or at most, ``limit``."""

    text: str
    value: float | None
    limit: float
    at_least: bool = True

    @property
    def kept(self) -> bool | None:
        """Whether the requirement is met, or None if the value was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        asked = f"{self.text} {'≥' if self.at_least else '≤'} {self.limit:g}"
        if self.value is None:
            return f"{asked}: not measured"
        return f"{asked}: {self.value:.2f}, {'yes' if self.kept else 'no'}"


@dataclass(frozen=True)
class Posts:
    """Milliseconds of ``POST /api/posts/``. The clients each send one request after another."""

    site: str
    """A key of `SITES`."""
    clients: int
    p50: float
    p99: float


SITES = {
    "plain": "without a task",
    "pressroom": "with Pressroom's durable task",
    "celery": "with stock Celery's `delay_on_commit`",
    "oban": "with Oban's job in the same transaction",
}
"""What a new post calls, by the name that bench.site knows."""


def posts_asked(posts: Sequence[Posts]) -> list[Asked]:
    p50 = {(one.site, one.clients): one.p50 for one in posts}
    ours, stock = p50.get(("pressroom", 1)), p50.get(("celery", 1))
    ours_at_ten, plain_at_ten = p50.get(("pressroom", 10)), p50.get(("plain", 10))
    return [
        Asked(
            "ms by which POST with a durable task exceeds POST with stock Celery, p50 at 1 client",
            ours - stock if ours is not None and stock is not None else None,
            0.5,
            at_least=False,
        ),
        Asked(
            "POST with a durable task to POST without, p50 at 10 clients",
            ours_at_ten / plain_at_ten if ours_at_ten is not None and plain_at_ten else None,
            1.15,
            at_least=False,
        ),
    ]


def under_load(ours: Figures | None, stock: Figures | None) -> Asked:
    """Compare p99 at all rates that both keep up with. The value is the worst ratio."""
    text, limit = "commit→start p99 to stock Celery's", 1.5
    of_stock = {one.rate: one.p99 for one in stock.curve if one.kept and one.p99} if stock else {}
    of_ours = {one.rate: one.p99 for one in ours.curve if one.kept and one.p99} if ours else {}
    ratios = [(of_ours[rate] / of_stock[rate], rate) for rate in of_ours if rate in of_stock]
    if not ratios:
        return Asked(f"{text} at every rate that both keep up with", None, limit, at_least=False)
    worst, at = max(ratios)
    rates = f"{min(rate for _, rate in ratios):g} to {max(rate for _, rate in ratios):g}"
    text = f"{text} at every rate that both keep up with ({rates} calls/s, worst at {at:g})"
    return Asked(text, worst, limit, at_least=False)


def cpu(of: Figures | None, *parts: str) -> float | None:
    """Return the CPU seconds of the parts together, or None if not all were measured. What is not run costs nothing."""
    if of is None or of.cpu_workers is None:
        return None
    return sum(getattr(of, part) or 0.0 for part in parts)


def asked(measured: Mapping[str, Figures], posts: Sequence[Posts] = ()) -> list[Asked]:
    """Return the requirements on Pressroom compared to the other queues. ``measured`` has the results by module."""

    def ratio(text: str, figure: str, peer: str, limit: float, at_least: bool = True, ours: str = "pressroom") -> Asked:
        own, theirs = getattr(measured.get(ours), figure, None), getattr(measured.get(peer), figure, None)
        return Asked(text, own / theirs if own is not None and theirs else None, limit, at_least)

    ours, stock = measured.get("pressroom"), measured.get(STOCK)
    spent, of_stock = cpu(ours, "cpu_workers", "cpu_beside", "cpu_postgres"), cpu(stock, "cpu_workers", "cpu_redis")
    return [
        ratio("enqueue/s one by one to stock Celery's", "enqueue", STOCK, 1.0),
        ratio("enqueue/s one by one to Oban's", "enqueue", "oban", 0.9),
        ratio("enqueue/s in one transaction to Oban's", "enqueue_many", "oban", 1.5),
        ratio("drained/s one by one to stock Celery's", "drained", STOCK, 2.0),
        ratio("drained/s with bundles to Oban's", "drained", "oban", 1.2, ours="pressroom_bundles"),
        ratio("drained/s with bundles to Huey's", "drained", "huey", 1.0, ours="pressroom_bundles"),
        ratio("idle p50 to stock Celery's", "idle_p50", STOCK, 1.0, at_least=False),
        ratio("idle p99 to stock Celery's", "idle_p99", STOCK, 1.0, at_least=False),
        under_load(ours, stock),
        *posts_asked(posts),
        Asked(
            "CPU of workers, relay and Postgres to that of stock Celery's workers and Valkey",
            spent / of_stock if spent is not None and of_stock else None,
            0.8,
            at_least=False,
        ),
    ]
