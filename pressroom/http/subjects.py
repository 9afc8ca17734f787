"""What a run is about: an object of an app, under its address in the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from django.urls import NoReverseMatch
from rest_framework.request import Request
from rest_framework.reverse import reverse

from pressroom.models import TaskRun

HEAD = 300
"""Characters of a call's arguments in which the first one is looked for: a key is short, the rest may be large."""


class Subject(NamedTuple):
    """A kind of object that tasks are about."""

    type: str
    view_name: str
    key: Callable[[Any], Any] | None
    """From a task's first argument to the object's key, where it is not that itself; None: there is no such object."""


_subjects: dict[str, Subject] = {}


def tasks_about(type_: str, view_name: str, *tasks: Any, key: Callable[[Any], Any] | None = None) -> None:
    """Declare that the tasks' first argument is the key of a ``type_``, whose address is the route ``view_name``'s."""
    _subjects.update((task.name, Subject(type_, view_name, key)) for task in tasks)


def subjects() -> list[str]:
    """The names of the tasks of which it is declared what they are about."""
    return sorted(_subjects)


def about(run: TaskRun, request: Request) -> dict[str, str] | None:
    """Type and address of the run's object; None where nothing is declared of its task."""
    subject = _subjects.get(run.name)
    argument = _first_argument(getattr(run, "body_head", None) or run.body[:HEAD]) if subject is not None else None
    if subject is None or not isinstance(argument, int | str):
        return None
    try:
        key = argument if subject.key is None else subject.key(argument)
        if key is None:
            return None
        return {"type": subject.type, "url": reverse(subject.view_name, args=[key], request=request)}
    except (NoReverseMatch, ValueError):
        # Called with what is no key.
        return None


def _first_argument(body: str) -> Any:
    """Of a message's body, which is ``[args, kwargs, …]`` and may be cut off behind."""
    decoder = json.JSONDecoder()
    try:
        if not body.startswith("[[]"):
            return decoder.raw_decode(body, 2)[0]
        kwargs, _ = decoder.raw_decode(body, body.index("{"))
        return next(iter(kwargs.values()), None)
    except (ValueError, RecursionError):
        return None
