"""Errors as application/problem+json (RFC 9457): always under ``/api/``, elsewhere if the client prefers JSON."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import psycopg
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import resolve
from django.utils.cache import patch_vary_headers
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from app.http.error_pages import EXPIRED_FORM, TEXTS, error_page, wants_page
from pressroom.database.base import DatabaseWrapper
from pressroom.database.errors import is_no_answer, is_passing
from pressroom.text import zoned

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
LOST_RACES = (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation)
RETRY_AFTER = "5"
"""Seconds after which a client may retry while Postgres is unavailable."""


def problem(status: int, detail: str, instance: str, **members: Any) -> HttpResponse:
    """Return a problem document. ``members`` adds members to it, except those that are None."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body |= {"instance": instance} | {name: value for name, value in members.items() if value is not None}
    response = HttpResponse(json.dumps(body), status=status, content_type=CONTENT_TYPE)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = RETRY_AFTER
    return response


def error_response(request: HttpRequest, status: int, detail: str, text: tuple[str, str] | None = None) -> HttpResponse:
    """Return an error as the client expects it: a problem document under ``/api/``, elsewhere that or a page.

    ``detail`` goes into the document. ``text`` is the heading and sentence of the page, if not the usual ones.
    """
    if request.path.startswith("/api/"):
        return problem(status, detail, request.path)
    response = error_page(status, text) if wants_page(request) else problem(status, detail, request.path)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = RETRY_AFTER
    patch_vary_headers(response, ["Accept"])
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | HttpResponse | None:
    """DRF's exception handler with a problem document as the body. Status and headers are DRF's."""
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
    """Yield each error with its JSON Pointer (RFC 6901). Errors of the whole body point to the root."""
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
    """Limits the body, and answers errors that no view has caught as well as an unavailable Postgres. Comes outermost.

    Under ``/api/`` every error is a problem document, whatever ``Accept`` says.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        too_big = self._limit_body(request)
        if too_big is not None:
            return too_big
        response = self.get_response(request)
        if response.status_code == HTTPStatus.MOVED_PERMANENTLY and request.method not in ("GET", "HEAD"):
            # The redirect adds a missing slash. After a 301 clients repeat the request as a GET, without the body.
            response.status_code = HTTPStatus.PERMANENT_REDIRECT
        is_problem = response.status_code >= 400 and request.path.startswith("/api/")
        if is_problem and response.get("Content-Type", "").startswith("text/html"):
            detail = getattr(request, "problem_detail", HTTPStatus(response.status_code).phrase)
            return problem(response.status_code, detail, request.path)
        if response.status_code >= 400 and not response.streaming and not response.content:
            # Django's 405 has an empty body.
            page = error_response(request, response.status_code, HTTPStatus(response.status_code).phrase)
            for name, value in page.items():
                response[name] = value
            response.content = page.content
            response["Content-Length"] = str(len(page.content))
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer an exception that a view raised and DRF did not handle."""
        if _is_database_away(error):
            return _database_away(request, error)
        if is_lost_race(error):
            logger.warning("lost a race: %s", str(error).strip())
            detail = "Another request changed the same object at the same time. Fetch it and try again."
            return error_response(request, HTTPStatus.CONFLICT, detail)
        if isinstance(error, RequestDataTooBig):
            return self._too_big(request, _body_limit(request))
        if isinstance(error, BadRequest | SuspiciousOperation | Http404 | PermissionDenied):
            request.problem_detail = str(error)  # type: ignore[attr-defined]  # ``__call__`` reads it
        return None

    def _limit_body(self, request: HttpRequest) -> HttpResponse | None:
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            return error_response(request, HTTPStatus.BAD_REQUEST, "Content-Length is not a number.")
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
            request._stream = request.META["wsgi.input"]  # Django reads the body from here.
        return None

    def _too_big(self, request: HttpRequest, limit: int) -> HttpResponse:
        detail = f"The body is larger than {limit} bytes."
        # The unread rest of the body would be taken for the next request on this connection.
        force_close = getattr(request.META["wsgi.input"], "force_close", None)
        if force_close is not None:
            force_close()
        return error_response(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def is_lost_race(error: BaseException) -> bool:
    """Whether a concurrent write has made a checked write fail: by the same unique value, or by a deletion."""
    return isinstance(error, IntegrityError) and isinstance(error.__cause__, LOST_RACES)


def _body_limit(request: HttpRequest) -> int:
    """Return the limit in bytes. The view names its setting by ``body_limit`` (in ``as_view`` or ``@action``)."""
    try:
        view = resolve(request.path_info).func
    except Http404:
        return int(settings.MAX_BODY_SIZE)
    name = getattr(view, "initkwargs", {}).get("body_limit") or "MAX_BODY_SIZE"
    return int(getattr(settings, name))


def _is_database_away(error: BaseException) -> bool:
    return is_no_answer(error) or is_passing(error)


def _database_away(request: HttpRequest, error: BaseException) -> HttpResponse:
    logger.error("Postgres did not answer: %s", str(error).strip())
    heading, sentence = TEXTS[HTTPStatus.SERVICE_UNAVAILABLE]
    if DatabaseWrapper.away_since is not None:
        sentence += f" It has been away since {zoned(DatabaseWrapper.away_since)}."
    return error_response(request, HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer.", (heading, sentence))


# The handlers that Django calls by status (``handler404`` and others in ``app/urls.py``) and on a CSRF failure.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _by_status(request, HTTPStatus.BAD_REQUEST)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _by_status(request, HTTPStatus.FORBIDDEN)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _by_status(request, HTTPStatus.NOT_FOUND)


def _by_status(request: HttpRequest, status: HTTPStatus) -> HttpResponse:
    return error_response(request, status, getattr(request, "problem_detail", "") or status.phrase)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an unhandled exception, also from outside a view: without Postgres the session middleware fails."""
    error = sys.exc_info()[1]
    if error is not None and _is_database_away(error):
        return _database_away(request, error)
    return _by_status(request, HTTPStatus.INTERNAL_SERVER_ERROR)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return error_response(request, HTTPStatus.FORBIDDEN, reason or "CSRF verification failed.", EXPIRED_FORM)
