"""What a run is about: an object of an app, with its URL in the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from django.urls import NoReverseMatch
from rest_framework.request import Request
from rest_framework.reverse import reverse

from pressroom.models import TaskRun

HEAD = 300
"""Characters at the start of a call's body in which its first argument is searched: a body may be long."""


class Subject(NamedTuple):
    """A kind of object that tasks are about."""

    type: str
    view_name: str
    key: Callable[[Any], Any] | None
    """Returns the object's key for a task's first argument, or None if there is no object.

    Without this function the first argument is the key.
    """


_subjects: dict[str, Subject] = {}


def tasks_about(type_: str, view_name: str, *tasks: Any, key: Callable[[Any], Any] | None = None) -> None:
    """Declare that the first argument of the tasks is the key of a ``type_``, whose URL is the route ``view_name``.

    ``key`` returns the key for a first argument that is not the key itself.
    """
    _subjects.update((task.name, Subject(type_, view_name, key)) for task in tasks)


def subjects() -> list[str]:
    """Return the names of the tasks for which `tasks_about` was called."""
    return sorted(_subjects)


def about(run: TaskRun, request: Request) -> dict[str, str] | None:
    """Return type and URL of the run's object, or None if nothing is declared for its task."""
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
        # The argument is not a key.
        return None


def _first_argument(body: str) -> Any:
    """Return the first argument in a message's body, which is ``[args, kwargs, …]`` and may be truncated."""
    decoder = json.JSONDecoder()
    try:
        if not body.startswith("[[]"):
            return decoder.raw_decode(body, 2)[0]
        kwargs, _ = decoder.raw_decode(body, body.index("{"))
        return next(iter(kwargs.values()), None)
    except (ValueError, RecursionError):
        return None
