"""The class of a queue. A project declares its queues in the setting ``TASKRUNS_QUEUES``: see `pressroom.conf`.

This module imports only the standard library, so that a chart's generator and tests can read a table of queues without
Django.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

LONGEST_TIME_LIMIT = 1800
"""Seconds that the hard limit of a queue may have at most."""

Pool = Literal["prefork", "threads", "gevent", "solo"]

SOFT_LIMITS: frozenset[str] = frozenset({"prefork"})
HARD_LIMITS: frozenset[str] = frozenset({"prefork", "gevent"})
"""The pools that can enforce a soft limit, and those that can enforce a hard one."""


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
