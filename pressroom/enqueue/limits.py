"""The limits of tasks: which lane a call waits in, and which limits the code has. See docs/flow-control.md."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pressroom.enqueue.call_arguments import as_text, by_name, digest, has_parameter
from pressroom.sql import limits
from pressroom.sql.limits import Limit

logger = logging.getLogger(__name__)

SEPARATOR = "\x1f"
"""Between the name of the limit and the key in a lane. ``admit.sql`` and ``claim.sql`` know it, too."""
LONGEST_KEY = 200
"""Characters of a key that a lane shows. A longer one is replaced by its digest."""
MOST = 1_000_000
"""The largest concurrency or rate."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"(\d{1,7})/(\d{0,4})([smhd])")


def parsed_rate(rate: str) -> tuple[int, float]:
    """Return how many starts a rate allows in how many seconds: ``"100/m"`` is (100, 60.0), ``"5/10s"`` is (5, 10.0).

    Raises ValueError.
    """
    match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if match is None or not 1 <= int(match[1]) <= MOST or (match[2] and not int(match[2])):
        raise ValueError(f"rate={rate!r:.100} is not a number of starts in a time, such as '100/m' or '5/10s'")
    return int(match[1]), float(int(match[2] or 1) * UNITS[match[3]])


def has_limit(task: Any) -> bool:
    """Return whether a task has a limit. ``task`` may be None."""
    return getattr(task, "concurrency", None) is not None or getattr(task, "rate", None) is not None


def lane_of(task: Any, args: Any, kwargs: Any) -> str | None:
    """Return the lane in which a call waits, or None for a task without a limit.

    Raises what the task's ``key`` raises, and TypeError if the task does not take these arguments.
    """
    if not has_limit(task):
        return None
    key = task.key
    if key is None:
        return f"{task.name}{SEPARATOR}"
    value = key(*args, **kwargs) if callable(key) else by_name(task, args, kwargs).get(key)
    text = as_text(task.name, value)
    return f"{task.name}{SEPARATOR}{text if len(text) <= LONGEST_KEY else digest([text])}"


def limits_of(tasks: Iterable[Any]) -> list[Limit]:
    """Return the limits of the tasks that have one."""
    found = []
    for task in tasks:
        if has_limit(task):
            rate, period = parsed_rate(task.rate) if task.rate is not None else (None, None)
            found.append(Limit(task.name, task.concurrency, rate, period))
    return found


def sync(tasks: Iterable[Any]) -> None:
    """Write the limits of the tasks that this process knows, so that the relay keeps to them."""
    if changed := limits.sync(limits_of(tasks)):
        logger.info("%s limits of tasks are new or have changed", changed)


def problems(task: Any) -> Iterator[str]:
    """Yield what is wrong with a task's limits, if anything is."""
    if not has_limit(task):
        if getattr(task, "key", None) is not None:
            yield "key needs concurrency or rate"
        return
    if task.concurrency is not None and not (type(task.concurrency) is int and 1 <= task.concurrency <= MOST):
        yield f"concurrency={task.concurrency!r:.100} is not a whole number from 1 to {MOST}"
    try:
        if task.rate is not None:
            parsed_rate(task.rate)
    except ValueError as error:
        yield str(error)
    if not (task.key is None or callable(task.key) or isinstance(task.key, str)):
        yield f"key={task.key!r:.100} is not the name of an argument, and no function"
    elif isinstance(task.key, str) and not has_parameter(task, task.key):
        yield f"key names no argument of the task: {task.key}"
    if not getattr(task, "durable", True):
        yield "a task with durable=False stores no calls that could wait"
    if SEPARATOR in task.name:
        yield f"its name contains {SEPARATOR!r}"
