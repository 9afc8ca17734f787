"""The arguments of a call by the names that the task's function gives them, and values of them as text."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pressroom.enqueue.arguments import encoded


@lru_cache(maxsize=1_000)
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


def parameters_of(task: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a task's function, without ``self`` of a bound task."""
    return _signature(task.run).parameters


def by_name(task: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return a call's arguments by name, with defaults. Keyword arguments of ``**kwargs`` are among them.

    Raises TypeError if the task's function does not take them.
    """
    bound = _signature(task.run).bind(*(args or ()), **(kwargs or {}))
    bound.apply_defaults()
    named = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            more = named.pop(parameter.name)
            # One may have the name of a positional-only parameter.
            named |= {f"**{name}" if name in named else name: value for name, value in more.items()}
    return named


def has_parameter(task: Any, name: str) -> bool:
    """Return whether a call of the task may have an argument of this name. That of ``**kwargs`` itself has no value."""
    parameters = parameters_of(task)
    more = [one.name for one in parameters.values() if one.kind is one.VAR_KEYWORD]
    return name not in more and (name in parameters or bool(more))


def as_text(name: str, value: Any) -> str:
    """Return an argument as text that is the same for equal values, however a dictionary is ordered.

    Raises EncodeError for a value that cannot be an argument of the task ``name``.
    """
    return json.dumps(json.loads(encoded(name, value)), sort_keys=True)


def digest(texts: Iterable[str]) -> str:
    """Return a digest of texts that JSON made."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
