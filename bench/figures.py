"""The results of one task queue, percentiles, and the requirements on Pressroom compared to the other queues."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Figures:
    """The results of one task queue. None: not measured or not possible. ``error`` says what ended it early."""

    title: str
    versions: dict[str, str] = field(default_factory=dict)
    tasks: int = 0
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
    """Milliseconds of ``POST /api/posts/`` with this many clients, each sending one request after another."""

    clients: int
    plain_p50: float
    plain_p99: float
    task_p50: float
    """With a durable task in the same transaction."""
    task_p99: float


def asked(measured: Mapping[str, Figures], posts: Sequence[Posts] = ()) -> list[Asked]:
    """Return the requirements on Pressroom compared to the other queues. ``measured`` has the results by module."""

    def ratio(
        text: str, figure: str, peer: str, limit: float, at_least: bool = True, pressroom: str = "pressroom"
    ) -> Asked:
        ours, theirs = getattr(measured.get(pressroom), figure, None), getattr(measured.get(peer), figure, None)
        return Asked(text, ours / theirs if ours is not None and theirs else None, limit, at_least)

    drained = {"rq_worker": "RQ", "rq_simple": "RQ SimpleWorker", "procrastinate": "Procrastinate"}
    alone = next((one for one in posts if one.clients == 1), None)
    return [
        ratio("drained/s to Celery's with acks_late", "drained", "celery_acks_late", 0.8),
        *(ratio(f"drained/s to {title}'s", "drained", name, 1.0) for name, title in drained.items()),
        ratio("drained/s with bundles to Huey's", "drained", "huey", 1.0, pressroom="pressroom_bundles"),
        ratio("enqueue/s one by one to Celery's", "enqueue", "celery_default", 0.7),
        ratio("enqueue/s in one transaction to Celery's", "enqueue_many", "celery_default", 3.0),
        ratio("commit→start p99 at 20/s to Celery's", "idle_p99", "celery_default", 1.5, at_least=False),
        ratio("commit→start p99 at half load to Celery's", "half_p99", "celery_default", 1.5, at_least=False),
        ratio("workers' CPU per 1,000 to Celery's", "cpu_workers", "celery_default", 1.6, at_least=False),
        Asked(
            "ms that a durable task adds to POST /api/posts/, p50 at 1 client",
            alone.task_p50 - alone.plain_p50 if alone else None,
            3.0,
            at_least=False,
        ),
    ]
