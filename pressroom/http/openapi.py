"""Decorators for the OpenAPI description of a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiExample

Handler = TypeVar("Handler", bound=Callable[..., Any])


def examples(*, request: Any = None, response: Any = None) -> list[OpenApiExample]:
    """Return examples of a request and its response, for ``@extend_schema_serializer(examples=examples(…))``.

    With ``@extend_schema`` they belong to one operation and replace the serializer's examples.
    """
    shown = []
    if request is not None:
        shown.append(OpenApiExample("Request", request, request_only=True))
    if response is not None:
        shown.append(OpenApiExample("Answer", response, response_only=True, status_codes=["200", "201", "202"]))
    return shown


def response_headers(*names: str) -> Callable[[Handler], Handler]:
    """Decorate a view's method with further headers of its 200 response, for the OpenAPI description."""

    def mark(handler: Handler) -> Handler:
        handler.response_headers = names  # type: ignore[attr-defined]  # an attribute of ours
        return handler

    return mark
