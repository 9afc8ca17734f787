"""A run's message in a form that a page can show, whatever the calling code has put into it."""

from __future__ import annotations

import json
from typing import Any

from django.template.response import TemplateResponse
from django.utils.safestring import SafeString, mark_safe

from pressroom.models import TaskRun
from pressroom.text import carried, carried_json


class Page(TemplateResponse):
    """A page that contains only text that its encoding can carry."""

    @property
    def rendered_content(self) -> SafeString:
        """The HTML. Only single characters are replaced, so it is as safe as before."""
        return mark_safe(carried(super().rendered_content))  # noqa: S308 - see above


def headers_of(run: TaskRun) -> dict[str, Any]:
    """Return the message's headers. Those that the page uses have the expected type, or are missing."""
    try:
        decoded = carried_json(json.loads(run.headers))
    except (ValueError, RecursionError):
        decoded = None
    headers: dict[str, Any] = decoded if isinstance(decoded, dict) else {}
    for name in ("group", "parent_id", "origin", "periodic_task_name"):
        if not isinstance(headers.get(name), str):
            headers.pop(name, None)
    limits = headers.get("timelimit")
    if not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_seconds, limits))):
        headers["timelimit"] = [None, None]
    return headers


def request_id(headers: dict[str, Any]) -> str:
    """Return the id of the request that called the run; empty if no request did."""
    known = headers.get("__django_structlog__")
    found = known.get("request_id") if isinstance(known, dict) else None
    return found if isinstance(found, str) else ""


def arguments_of(run: TaskRun) -> str:
    """Return the arguments as indented JSON, or the message's body as it is if it is not a call."""
    try:
        args, kwargs = run.arguments
        return json.dumps(carried_json({"args": args, "kwargs": kwargs}), ensure_ascii=False, indent=2)
    except (ValueError, TypeError, RecursionError):
        return run.body


def _is_seconds(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
