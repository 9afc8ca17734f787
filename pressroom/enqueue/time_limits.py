"""Which time limits a run has."""

from __future__ import annotations

from typing import Any

from pressroom.conf import declared_queues


def time_limits(task: Any, queue: str, given: list[float | None]) -> list[float | None]:
    """Return the hard and the soft limit in seconds: the call's (``given``), else the task's, else the queue's.

    ``task`` is None for a task that this process does not know. A soft limit must be below the hard one to count.
    """
    declared = declared_queues().get(queue)
    hard = given[0] or getattr(task, "time_limit", None) or getattr(declared, "time_limit", None)
    soft = given[1] or getattr(task, "soft_time_limit", None) or getattr(declared, "soft_time_limit", None)
    return [hard, soft if not hard or not soft or soft < hard else None]
