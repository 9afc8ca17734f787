"""Errors as application/problem+json (RFC 9457), wherever under ``/api/`` they come from."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import resolve
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from app.postgres import is_no_answer, is_passing

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER = "5"
"""Seconds after which a client may try again when Postgres is away."""


def problem(status: int, detail: str, instance: str, **members: Any) -> HttpResponse:
    """A problem document. ``members`` are added to it, None is left out."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body |= {"instance": instance} | {name: value for name, value in members.items() if value is not None}
    response = HttpResponse(json.dumps(body), status=status, content_type=CONTENT_TYPE)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = RETRY_AFTER
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | HttpResponse | None:
    """DRF's handler: the same statuses and headers, the body a problem document."""
    request: HttpRequest = context["request"]
    response = drf_exception_handler(error, context)
    if response is None:
        return None
    errors = None
    if isinstance(error, exceptions.ValidationError):
        detail = "The request is not valid."
        errors = [{"pointer": f"#{pointer}", "detail": text} for pointer, text in _flatten(error.detail)]
    elif isinstance(error, exceptions.APIException):
        detail = _text(error.detail)
    else:
        detail = HTTPStatus(response.status_code).description or HTTPStatus(response.status_code).phrase
    answer = problem(response.status_code, detail, request.path, errors=errors)
    for name, value in response.headers.items():
        if name.lower() not in ("content-type", "content-length"):
            answer[name] = value
    return answer


def _text(detail: Any) -> str:
    if isinstance(detail, dict):
        return _text(detail.get("detail", next(iter(detail.values()), "")))
    if isinstance(detail, list):
        return " ".join(map(_text, detail))
    return str(detail)


def _flatten(detail: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Field errors with JSON pointers (RFC 6901); errors of the whole are at the root."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            step = "" if name == "non_field_errors" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _flatten(inner, pointer + step)
    elif isinstance(detail, list) and any(isinstance(inner, dict | list) for inner in detail):
        for index, inner in enumerate(detail):
            if inner:
                yield from _flatten(inner, f"{pointer}/{index}")
    elif isinstance(detail, list):
        for inner in detail:
            yield pointer, str(inner)
    else:
        yield pointer, str(detail)


class ProblemMiddleware:
    """Outermost: limits the body, answers for what no view has caught, and for an absent Postgres.

    Under ``/api/`` every error is a problem document; elsewhere Django's own pages stay, but for 413 and 503.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        too_big = self._limit_body(request)
        if too_big is not None:
            return too_big
        response = self.get_response(request)
        if response.status_code == HTTPStatus.MOVED_PERMANENTLY and request.method not in ("GET", "HEAD"):
            # For a missing slash: after a 301 clients ask again by GET, without the body.
            response.status_code = HTTPStatus.PERMANENT_REDIRECT
        is_problem = response.status_code >= 400 and request.path.startswith("/api/")
        if is_problem and response.get("Content-Type", "").startswith("text/html"):
            detail = getattr(request, "problem_detail", HTTPStatus(response.status_code).phrase)
            return problem(response.status_code, detail, request.path)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """What a view raised and DRF did not answer."""
        if is_no_answer(error) or is_passing(error):
            logger.error("Postgres gave no answer: %s", str(error).strip())
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer.", request.path)
        if isinstance(error, RequestDataTooBig):
            return self._too_big(request, _body_limit(request))
        if isinstance(error, BadRequest | SuspiciousOperation | Http404 | PermissionDenied):
            request.problem_detail = str(error)  # type: ignore[attr-defined]  # told to ourselves, above
        return None

    def _limit_body(self, request: HttpRequest) -> HttpResponse | None:
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            return problem(HTTPStatus.BAD_REQUEST, "Content-Length is not a number.", request.path)
        chunked = "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower()
        if not (length or chunked):
            return None
        limit = _body_limit(request)
        if length > limit:
            return self._too_big(request, limit)
        if chunked:
            body = request.META["wsgi.input"].read(limit + 1)
            if len(body) > limit:
                return self._too_big(request, limit)
            request.META |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            request._stream = request.META["wsgi.input"]  # what Django reads from
        return None

    def _too_big(self, request: HttpRequest, limit: int) -> HttpResponse:
        detail = f"The body is larger than {limit} bytes."
        # What was not read stands in the way of a next request on this connection.
        force_close = getattr(request.META["wsgi.input"], "force_close", None)
        if force_close is not None:
            force_close()
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, request.path)


def _body_limit(request: HttpRequest) -> int:
    """Bytes: of the setting that the view names by ``body_limit`` (an argument of ``as_view`` or ``@action``)."""
    try:
        view = resolve(request.path_info).func
    except Http404:
        return int(settings.MAX_BODY_SIZE)
    name = getattr(view, "initkwargs", {}).get("body_limit") or "MAX_BODY_SIZE"
    return int(getattr(settings, name))
