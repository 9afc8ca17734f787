"""The class of a queue. A project declares its queues in the setting ``TASKRUNS_QUEUES``: see `pressroom.conf`.

This module imports only the standard library, so that a chart's generator and tests can read a table of queues without
Django.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from typing import Any, Literal

LONGEST_TIME_LIMIT = 1800
"""Seconds that the hard limit of a queue may have at most."""

Pool = Literal["prefork", "threads", "gevent", "solo"]

SOFT_LIMITS: frozenset[str] = frozenset({"prefork"})
HARD_LIMITS: frozenset[str] = frozenset({"prefork", "gevent"})
"""The pools that can enforce a soft limit, and those that can enforce a hard one."""


LANE_SEPARATOR = "\x1f"
"""Between the name of the task and the key in a lane of runs. ``admit.sql`` and ``claim.sql`` know it, too."""
MOST = 1_000_000
"""The largest limit of runs at once, and of starts in a period."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"(\d{1,7})/(\d{0,4})([smhd])", re.ASCII)


def parsed_rate(rate: str) -> tuple[int, float]:
    """Return how many starts a rate allows in how many seconds: ``"100/m"`` is (100, 60.0), ``"5/10s"`` is (5, 10.0).

    Raises ValueError.
    """
    match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if match is None or not 1 <= int(match[1]) <= MOST or (match[2] and not int(match[2])):
        given = repr(rate)[:100] if isinstance(rate, str) else f"a {type(rate).__name__}"
        raise ValueError(f"rate={given} is not a number of starts in a time, such as '100/m' or '5/10s'")
    return int(match[1]), float(int(match[2] or 1) * UNITS[match[3]])


def rate_as_text(count: int, period: float) -> str:
    """Return a rate as `parsed_rate` reads it."""
    unit = next((unit for unit in "dhm" if not period % UNITS[unit]), "s")
    number = int(period / UNITS[unit])
    return f"{count}/{number if number > 1 else ''}{unit}"


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A queue and the limits of its tasks. Raises ValueError if the limits contradict each other."""

    name: str
    """Name of the Celery queue, of the Redis list and, as ``worker-<name>``, of the Deployment."""
    pool: Pool
    """Celery's worker pool."""
    concurrency: int
    """Slots of one worker: processes, threads or greenlets."""
    soft_time_limit: int | None
    """Seconds after which SoftTimeLimitExceeded is raised in the task. None if the pool cannot enforce it."""
    time_limit: int | None
    """Seconds after which the task is killed, under prefork with its process. None if the pool cannot enforce it."""
    max_attempts: int
    """Lost attempts (a worker died, no verdict) after which a run becomes a dead letter."""
    max_wait: int
    """Seconds that a due run may wait before an alert."""
    most_at_once: int | None = None
    """How many of its runs execute at once, over all workers. None for no limit but the slots."""
    rate: str | None = None
    """How many of its runs start in a time, over all workers: ``"100/m"``, ``"5/10s"``. None for no limit."""

    @property
    def has_limit(self) -> bool:
        """Whether its runs wait for a limit of the queue: see docs/flow-control.md."""
        return self.most_at_once is not None or self.rate is not None

    def __post_init__(self) -> None:
        for name, limit, pools in (
            ("soft_time_limit", self.soft_time_limit, SOFT_LIMITS),
            ("time_limit", self.time_limit, HARD_LIMITS),
        ):
            if (limit is not None) != (self.pool in pools):
                raise ValueError(
                    f"queue {self.name!r}: pool {self.pool} "
                    + (f"cannot enforce {name} ({limit}): set it to None" if limit else f"needs a {name}")
                )
        limits = [limit for limit in (self.soft_time_limit, self.time_limit) if limit is not None]
        if any(not 0 < limit <= LONGEST_TIME_LIMIT for limit in limits) or sorted(set(limits)) != limits:
            raise ValueError(
                f"queue {self.name!r}: soft_time_limit ({self.soft_time_limit}) must be above 0 and below time_limit "
                f"({self.time_limit}), which must be at most {LONGEST_TIME_LIMIT} s"
            )
        if min(self.concurrency, self.max_attempts, self.max_wait) < 1:
            raise ValueError(f"queue {self.name!r}: concurrency, max_attempts and max_wait must be at least 1")
        most = self.most_at_once
        if most is not None and not (type(most) is int and 1 <= most <= MOST):
            raise ValueError(f"queue {self.name!r}: most_at_once={most!r:.100} is not a whole number from 1 to {MOST}")
        if self.rate is not None:
            try:
                parsed_rate(self.rate)
            except ValueError as error:
                raise ValueError(f"queue {self.name!r}: {error}") from error


def rows(queues: Iterable[Queue]) -> list[dict[str, Any]]:
    """Return a table of queues as the chart reads it: a mapping of each queue's fields."""
    return [dataclasses.asdict(queue) for queue in queues]


def as_values(queues: Iterable[Queue]) -> str:
    """Return a table of queues as values of the chart, in YAML."""
    return "queues:\n" + "".join(f"  - {json.dumps(row)}\n" for row in rows(queues))
