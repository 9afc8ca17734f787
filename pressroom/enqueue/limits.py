"""Limits of tasks and queues: which lane a call waits in, and which limits the code has. See docs/flow-control.md."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings

from pressroom.conf import declared_queues
from pressroom.enqueue.call_arguments import as_text, by_name, digest, has_parameter
from pressroom.process.user_code import guarded
from pressroom.queues import LANE_SEPARATOR, MOST, parsed_rate
from pressroom.sql import limits
from pressroom.sql.limits import Limit
from pressroom.text import carried, shown

logger = logging.getLogger(__name__)

OF_QUEUE = LANE_SEPARATOR
"""The lane of a call whose task has no limit, in a queue that has one."""
LONGEST_KEY = 200
"""Characters of a key that a lane shows. A longer one is replaced by its digest."""


def has_limit(task: Any) -> bool:
    """Return whether a task has a limit. ``task`` may be None."""
    return getattr(task, "concurrency", None) is not None or getattr(task, "rate", None) is not None


def lane_of(task: Any, queue: str, args: Any, kwargs: Any) -> str | None:
    """Return the lane in which a call waits, or None if neither the task nor the queue has a limit.

    Raises what the task's ``key`` raises, and TypeError if the task does not take these arguments.
    """
    if not has_limit(task):
        # Every call comes here. A loop is the quickest.
        for one in settings.TASKRUNS_QUEUES:
            if one.name == queue:
                return OF_QUEUE if one.has_limit else None
        return None
    key = task.key
    if key is None:
        return f"{task.name}{LANE_SEPARATOR}"
    if callable(key):
        return lane_of_key(task, guarded(f"the key of {task.name}", key, *args, **kwargs))
    return lane_of_key(task, by_name(task, args, kwargs).get(key))


def lane_of_key(task: Any, value: Any) -> str:
    """Return the lane of the calls of a task whose key is ``value``. Raises EncodeError for what cannot be a key."""
    text = as_text(task.name, value)
    return f"{task.name}{LANE_SEPARATOR}{text if len(text) <= LONGEST_KEY else digest([text])}"


def read_key(text: str) -> Any:
    """Return the key that somebody has typed, or that a lane ends with: JSON, or else the text itself."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)  # NaN is not JSON

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


def limits_of(tasks: Iterable[Any]) -> list[Limit]:
    """Return the limits of the declared queues, and those of the tasks that have one."""
    found = [
        Limit("queue", queue.name, queue.most_at_once, *_rate(queue.rate))
        for queue in declared_queues().values()
        if queue.has_limit
    ]
    return [
        *found,
        *(Limit("task", task.name, task.concurrency, *_rate(task.rate)) for task in tasks if has_limit(task)),
    ]


def _rate(rate: str | None) -> tuple[int | None, float | None]:
    return (None, None) if rate is None else parsed_rate(rate)


def sync(tasks: Iterable[Any]) -> None:
    """Write the limits that this process's code has, so that the relay keeps to them."""
    if changed := limits.sync(limits_of(tasks)):
        logger.info("%s limits are new or have changed", changed)


def problems(task: Any) -> Iterator[str]:
    """Yield what is wrong with a task's limits, if anything is."""
    if not has_limit(task):
        if getattr(task, "key", None) is not None:
            yield "key needs concurrency or rate"
        return
    if task.concurrency is not None and not (type(task.concurrency) is int and 1 <= task.concurrency <= MOST):
        yield f"concurrency={shown(task.concurrency)} is not a whole number from 1 to {MOST}"
    try:
        if task.rate is not None:
            parsed_rate(task.rate)
    except ValueError as error:
        yield str(error)
    if not (task.key is None or callable(task.key) or isinstance(task.key, str)):
        yield f"key={shown(task.key)} is not the name of an argument, and no function"
    elif isinstance(task.key, str) and not has_parameter(task, task.key):
        yield f"key names no argument of the task: {carried(task.key):.200}"
    if not getattr(task, "durable", True):
        yield "a task with durable=False stores no calls that could wait"
    if LANE_SEPARATOR in task.name:
        yield f"its name contains {LANE_SEPARATOR!r}"
