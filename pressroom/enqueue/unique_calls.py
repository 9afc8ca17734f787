"""Unique calls: a second call returns the result of the first and stores nothing. See docs/flow-control.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pressroom.enqueue.arguments import check_seconds
from pressroom.enqueue.call_arguments import as_text, by_name, digest, has_parameter
from pressroom.text import carried, shown

WHILE_WAITING, UNTIL_DONE = "while waiting", "until done"
OTHERS_DEPEND = ("link", "link_error", "chain", "chord", "group_id")
"""Options of a call on whose run others depend. Such a call is always stored."""


@dataclasses.dataclass(slots=True)
class UniqueCall:
    """What makes a call unique."""

    key: str
    """Begins with ``w`` (while waiting), ``d`` (until done) or ``s`` (seconds)."""
    seconds: float | None
    taken_by: str | None = None
    """The Celery id of the first call, if this one was not stored."""


def unique_call(
    task: Any, name: str, args: Any, kwargs: Any, unique: Any, unique_by: Any, options: dict[str, Any]
) -> UniqueCall | None:
    """Return what makes the call unique, or None for a call that is always stored.

    ``unique`` and ``unique_by`` are the options of the call; the task's own applies for each that is None. ``task`` is
    None if this process does not know it. Raises TypeError or ValueError.
    """
    chosen_options = checked(task, name, unique, unique_by)
    if chosen_options is None:
        return None
    unique, unique_by = chosen_options
    if any(options.get(option) for option in OTHERS_DEPEND):
        return None
    names = (unique_by,) if isinstance(unique_by, str) else unique_by
    arguments = {"args": list(args or ()), "kwargs": kwargs or {}} if task is None else by_name(task, args, kwargs)
    chosen = sorted(arguments) if names is None else sorted(set(names))
    kind = {WHILE_WAITING: "w", UNTIL_DONE: "d"}.get(unique, "s")
    text = digest(as_text(name, [one, arguments.get(one)]) for one in chosen)
    return UniqueCall(f"{kind}:{name}:{text}", float(unique) if kind == "s" else None)


def checked(task: Any, name: str, unique: Any, unique_by: Any) -> tuple[Any, Any] | None:
    """Return the options that apply to a call with these ones, or None if it is always stored. Raises ValueError."""
    if unique is None:
        unique = getattr(task, "unique", None)
    if unique is None or unique is False:
        if unique_by is not None:
            raise ValueError(f"{name}: unique_by needs unique")
        return None
    if unique_by is None:
        unique_by = getattr(task, "unique_by", None)
    for problem in problems(task, unique, unique_by):
        raise ValueError(f"{name}: {problem}")
    return unique, unique_by


def problems(task: Any, unique: Any, unique_by: Any) -> Iterator[str]:
    """Yield what is wrong with the options, if anything is."""
    if not (isinstance(unique, str) and unique in (WHILE_WAITING, UNTIL_DONE)):
        if isinstance(unique, str | bool) or not isinstance(unique, int | float):
            yield f"unique={shown(unique)} is not {WHILE_WAITING!r}, {UNTIL_DONE!r} or a number of seconds"
            return
        try:
            check_seconds("", "unique", unique)
        except ValueError:
            yield f"unique={shown(unique)} is not a number of seconds within a hundred years"
            return
        if unique <= 0:
            yield f"unique={shown(unique)} is not above 0"
    if unique_by is None:
        return
    names = (unique_by,) if isinstance(unique_by, str) else unique_by
    if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) for one in names):
        yield f"unique_by={shown(unique_by)} is not a list of names of arguments"
    elif task is None:
        yield "unique_by needs a task whose arguments this process knows"
    elif missing := [one for one in names if not has_parameter(task, one)]:
        yield f"unique_by names no argument of the task: {carried(', '.join(missing)):.200}"
