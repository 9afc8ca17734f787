"""Decorators for the OpenAPI description of a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiExample

Handler = TypeVar("Handler", bound=Callable[..., Any])


def examples(*, request: Any = None, response: Any = None) -> list[OpenApiExample]:
    """What a request and its answer look like, for ``@extend_schema_serializer(examples=examples(…))``.

    Given to ``@extend_schema`` it is for one operation, and stands in the place of the serializer's.
    """
    shown = []
    if request is not None:
        shown.append(OpenApiExample("Request", request, request_only=True))
    if response is not None:
        shown.append(OpenApiExample("Answer", response, response_only=True, status_codes=["200", "201", "202"]))
    return shown


def response_headers(*names: str) -> Callable[[Handler], Handler]:
    """For a view's method: what its answer of 200 carries besides, in the OpenAPI description."""

    def noted(handler: Handler) -> Handler:
        handler.response_headers = names  # type: ignore[attr-defined]  # an attribute of ours
        return handler

    return noted
