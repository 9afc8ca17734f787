"""What a queue is. A project declares its own in the setting ``TASKRUNS_QUEUES``: see `pressroom.conf`.

Standard library only, so that a chart's generator and tests can read a table of queues without Django.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

LONGEST_TIME_LIMIT = 1800
"""Seconds: no queue's hard limit may be longer."""

Pool = Literal["prefork", "threads", "gevent", "solo"]

SOFT_LIMITS: frozenset[str] = frozenset({"prefork"})
HARD_LIMITS: frozenset[str] = frozenset({"prefork", "gevent"})
"""The pools that can enforce such a limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A named line of work with the limits that hold for its tasks.

    Raises ValueError when the limits contradict each other.
    """

    name: str
    """Of the Celery queue, the Redis list and the Deployment ``worker-<name>``."""
    pool: Pool
    """Celery's worker pool."""
    concurrency: int
    """Slots of one worker: processes, threads or greenlets."""
    soft_time_limit: int | None
    """Seconds after which SoftTimeLimitExceeded is raised in the task; None where the pool cannot do that."""
    time_limit: int | None
    """Seconds after which the task is ended, with its process under prefork; None where the pool cannot do that."""
    max_attempts: int
    """Runs that may end without a verdict (worker lost) before the task is a dead letter."""
    max_wait: int
    """Seconds a due task may wait before an alert."""

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
                f"queue {self.name!r}: 0 < soft_time_limit ({self.soft_time_limit}) "
                f"< time_limit ({self.time_limit}) <= {LONGEST_TIME_LIMIT} s does not hold"
            )
        if min(self.concurrency, self.max_attempts, self.max_wait) < 1:
            raise ValueError(f"queue {self.name!r}: concurrency, max_attempts and max_wait are at least 1")
