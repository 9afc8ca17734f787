"""Refusal of request headers that a client relies on and the view would ignore."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse

from app.http.problems import problem

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


def handler_of(view: Any, method: str) -> Any:
    """Return the method of a DRF view (made by ``as_view()``) that handles ``method``, or None."""
    name = method.lower()
    actions = getattr(view, "actions", None)
    return getattr(getattr(view, "cls", None), actions.get(name, "") if actions else name, None)


class RequestHeadersMiddleware:
    """Answers 400 to an Idempotency-Key on a POST that does not store one, and to an If-Match that nothing compares.

    ``@idempotent`` and ConditionalMixin declare that a view supports them.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        """Check the headers before authentication, because the result is the same for every user."""
        handler = handler_of(view, request.method or "")
        if handler is None or request.method in SAFE:
            return None
        keeps_keys = request.method != "POST" or getattr(handler, "takes_idempotency_key", False)
        if "Idempotency-Key" in request.headers and not keeps_keys:
            return _refused(request, "Idempotency-Key")
        if "If-Match" in request.headers and not (getattr(view.cls, "takes_preconditions", False) and kwargs):
            return _refused(request, "If-Match")
        return None


def _refused(request: HttpRequest, name: str) -> HttpResponse:
    errors = [{"pointer": f"#/{name}", "detail": "This operation does not support this header."}]
    return problem(HTTPStatus.BAD_REQUEST, "The request is not valid.", request.path, errors=errors)
