"""A run's message as a page can show it, whatever stands in it: it is what somebody's code has sent."""

from __future__ import annotations

import json
from typing import Any

from django.template.response import TemplateResponse
from django.utils.safestring import SafeString, mark_safe

from pressroom.models import TaskRun
from pressroom.text import carried, carried_json


class Page(TemplateResponse):
    """A page of text that its encoding can carry."""

    @property
    def rendered_content(self) -> SafeString:
        """The HTML. Nothing but single characters is replaced, so it is as safe as it was."""
        return mark_safe(carried(super().rendered_content))  # noqa: S308 - see above


def headers_of(run: TaskRun) -> dict[str, Any]:
    """The message's headers: those that the page knows are of the type that it knows, or missing."""
    try:
        told = carried_json(json.loads(run.headers))
    except (ValueError, RecursionError):
        told = None
    headers: dict[str, Any] = told if isinstance(told, dict) else {}
    for name in ("group", "parent_id", "origin", "periodic_task_name"):
        if not isinstance(headers.get(name), str):
            headers.pop(name, None)
    limits = headers.get("timelimit")
    if not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_seconds, limits))):
        headers["timelimit"] = [None, None]
    return headers


def request_id(headers: dict[str, Any]) -> str:
    """Of the request that called the run; empty where none did."""
    known = headers.get("__django_structlog__")
    told = known.get("request_id") if isinstance(known, dict) else None
    return told if isinstance(told, str) else ""


def arguments_of(run: TaskRun) -> str:
    """The arguments as indented JSON; the message's body as it is where it is no call."""
    try:
        args, kwargs = run.arguments
        return json.dumps(carried_json({"args": args, "kwargs": kwargs}), ensure_ascii=False, indent=2)
    except (ValueError, TypeError, RecursionError):
        return run.body


def _is_seconds(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
