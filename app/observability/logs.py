"""Logging: one line an event, as JSON or in colours. Each line carries the ids of its request and task.

django-structlog assigns the request id and passes it on in the header of each task that the request starts. Code logs
with the standard library. Log lines hold ids and no personal data; `mask` is the safety net.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import click
import structlog
from celery import signals
from click.core import ParameterSource
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django_structlog.middlewares import RequestMiddleware

from pressroom import tracing
from pressroom.text import carried, carried_json

if TYPE_CHECKING:
    from celery import Task
    from django_structlog.celery.receivers import CeleryReceiver
    from structlog.typing import EventDict, WrappedLogger

FORMATS = ("json", "console")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
SECRET_PARTS = ("token",)
"""Names of URL parts whose value grants a right to everybody who knows it."""
NO_VALUES = ("exc_info", "stack_info", "_record", "_from_structlog")
"""Keys of structlog's own in an event."""
PERSONAL = re.compile(
    r"(?<![\w.+-])[\w.+-]++(?=@[\w-]+(\.[\w-]+)+)"  # the local part of an e-mail address, the password in a URL
    r"|(?<=://)[^\s/@:]*+:[^\s/@]++(?=@)"  # user name and password in a URL with any host
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JSON Web Token
    r"|\b(?:sk|rk|whsec)_\w+"  # Stripe's keys
)


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """Configure structlog and return Django's LOGGING: lines in one of FORMATS on stderr, from one of LEVELS up.

    An unknown format means JSON and an unknown level means INFO. The system checks report them.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_trace,
        _as_json,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=_colours(), exception_formatter=structlog.dev.plain_traceback)]
        if log_format == "console"
        else [
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    mask,
                    *render,
                ],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level if level in LEVELS else "INFO"},
        "loggers": {
            # django-structlog logs the same, with the ids.
            "django.request": {"level": "CRITICAL"},
            "celery.app.trace": {"level": "CRITICAL"},
            "celery.worker.strategy": {"level": "WARNING"},
            # These would log the URL of every call, including its secrets. Our own lines leave them out.
            "httpx": {"level": "WARNING"},
            "slack_sdk": {"level": "WARNING"},
            # Supervisors wait for its line that a process is ready, so it must appear at any level.
            "pressroom.management": {"level": "INFO"},
        },
    }


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the trace, if there is one."""
    return event if tracing.active is None else {**event, **tracing.active.ids()}


def _colours() -> bool:
    return sys.stderr.isatty() or bool(os.environ.get("FORCE_COLOR"))


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask personal and secret text in the event and its exceptions, and remove terminal control characters."""
    # Some libraries put an exception object under "exception", where the renderer expects text.
    return {
        name: PERSONAL.sub("***", carried(value)) if isinstance(value, str) or name == "exception" else value
        for name, value in event.items()
    }


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every value one that JSON can hold. The text of a task's own object may raise an error."""
    return {name: value if name in NO_VALUES else carried_json(value) for name, value in event.items()}


# ---- Requests --------------------------------------------------------------------------------------------------------


class RequestLogMiddleware(RequestMiddleware):
    """Logs one line per answered request. Takes a well-formed id from ``X-Request-ID`` and returns it there."""

    def prepare(self, request: HttpRequest) -> None:
        """Set the request id before anything is logged."""
        if not SANE_ID.fullmatch(request.META.get("HTTP_X_REQUEST_ID", "")):
            request.META["HTTP_X_REQUEST_ID"] = str(uuid.uuid4())
        request.META["pressroom.began"] = time.monotonic()
        super().prepare(request)

    def handle_response(self, request: HttpRequest, response: HttpResponse) -> None:
        """Return the id to the client and log the outcome."""
        response["X-Request-ID"] = request.META["HTTP_X_REQUEST_ID"]
        took = time.monotonic() - request.META["pressroom.began"]
        structlog.contextvars.bind_contextvars(duration_ms=round(took * 1000))
        super().handle_response(request, response)

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        """Return method and path, without the query and without secrets in the path."""
        path = request.path
        try:
            match = request.resolver_match or resolve(request.path_info)
        except Resolver404:
            return f"{request.method} {path}"
        for name in SECRET_PARTS:
            if name in match.kwargs:
                path = path.replace(str(match.kwargs[name]), "***")
        return f"{request.method} {path}"


# ---- Celery ----------------------------------------------------------------------------------------------------------

_receivers: list[CeleryReceiver] = []


def follow_tasks() -> None:
    """Log the end of each task and pass the ids on to tasks. Every process calls this once Django is set up."""
    from django_structlog.celery.receivers import CeleryReceiver
    from django_structlog.celery.signals import bind_extra_task_metadata

    logging.captureWarnings(True)
    receiver = CeleryReceiver()
    receiver.connect_worker_signals()
    # Every call of a task pays for these two handlers. Ours read two ids, and a level before they build a line.
    signals.before_task_publish.disconnect(receiver.receiver_before_task_publish)
    signals.before_task_publish.connect(_pass_ids_on, dispatch_uid="pressroom.logs")
    signals.after_task_publish.disconnect(receiver.receiver_after_task_publish)
    signals.after_task_publish.connect(_log_call, dispatch_uid="pressroom.logs")
    _receivers.append(receiver)  # Signals hold it only weakly.
    bind_extra_task_metadata.connect(_bind_name, dispatch_uid="pressroom.logs")
    signals.task_postrun.connect(_forget, dispatch_uid="pressroom.logs")
    # A receiver of this signal keeps Celery from configuring its own log formats.
    signals.setup_logging.connect(_set_level, dispatch_uid="pressroom.logs")


def _pass_ids_on(headers: dict[str, Any], properties: dict[str, Any] | None = None, **_: object) -> None:
    here = structlog.contextvars.get_contextvars()
    ids = {"request_id": here.get("request_id"), "parent_task_id": here.get("task_id", here.get("parent_task_id"))}
    # The receiver keeps it for the line of the call, which the same thread writes next.
    _receivers[-1]._priority = (properties or {}).get("priority")
    headers["__django_structlog__"] = {name: value for name, value in ids.items() if value is not None}


def _log_call(**sent: Any) -> None:
    if logging.getLogger("django_structlog").isEnabledFor(settings.DJANGO_STRUCTLOG_CELERY_TASK_START_LOG_LEVEL):
        _receivers[-1].receiver_after_task_publish(**sent)


def _bind_name(task: Task[Any, Any], **_: object) -> None:
    structlog.contextvars.bind_contextvars(task=task.name)


def _forget(**_: object) -> None:
    structlog.contextvars.clear_contextvars()


def _set_level(loglevel: int | None = None, **_: object) -> None:
    """Set the level that ``-l`` gives, as with plain Celery. Without ``-l``, keep the level of the settings."""
    context = click.get_current_context(silent=True)
    is_given = context is None or context.get_parameter_source("loglevel") is not ParameterSource.DEFAULT
    if loglevel and is_given:
        logging.getLogger().setLevel(loglevel)
