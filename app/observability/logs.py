"""Logs: one line an event, as JSON or in colours, with the request's id and the task's on every line between.

django-structlog gives a request its id and carries it in the header of each task that the request starts. Logging
calls stay the standard library's. A line holds ids and no personal data; `mask` is the net below that rule.
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
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django_structlog.middlewares import RequestMiddleware

from pressroom.text import carried

if TYPE_CHECKING:
    from celery import Task
    from django_structlog.celery.receivers import CeleryReceiver
    from structlog.typing import EventDict, WrappedLogger

FORMATS = ("json", "console")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
SECRET_PARTS = ("token",)
"""Names of URL parts whose value gives a right to whoever has it."""
PERSONAL = re.compile(
    r"(?<![\w.+-])[\w.+-]++(?=@[\w-]+(\.[\w-]+)+)"  # the name in an e-mail address, the password in a URL
    r"|(?<=://)[^\s/@:]*+:[^\s/@]++(?=@)"  # a name and its password in a URL, whatever the host
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JSON Web Token
    r"|\b(?:sk|rk|whsec)_\w+"  # Stripe's keys
)


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """Django's LOGGING for lines in one of FORMATS on standard error, from one of LEVELS up; sets structlog up, too.

    For others it takes JSON and INFO: the system checks tell.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
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
            # django-structlog says the same, with the ids.
            "django.request": {"level": "CRITICAL"},
            "celery.app.trace": {"level": "CRITICAL"},
            "celery.worker.strategy": {"level": "WARNING"},
            # A line for each call: the address with what is secret in it, which ours has not.
            "httpx": {"level": "WARNING"},
            "slack_sdk": {"level": "WARNING"},
            # Others wait for its word that it is ready, at any level.
            "pressroom.management": {"level": "INFO"},
        },
    }


def _colours() -> bool:
    return sys.stderr.isatty() or bool(os.environ.get("FORCE_COLOR"))


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The event, exceptions included, without what is personal or secret in its texts, or moves a terminal's cursor."""
    # Others' loggers give an error as "exception", where the renderer wants text.
    return {
        name: PERSONAL.sub("***", carried(value)) if isinstance(value, str) or name == "exception" else value
        for name, value in event.items()
    }


# ---- Requests --------------------------------------------------------------------------------------------------------


class RequestLogMiddleware(RequestMiddleware):
    """One line a request, when it is answered; its id is the client's, if sane, and goes back in ``X-Request-ID``."""

    def prepare(self, request: HttpRequest) -> None:
        """Settle the id before anything is logged."""
        if not SANE_ID.fullmatch(request.META.get("HTTP_X_REQUEST_ID", "")):
            request.META["HTTP_X_REQUEST_ID"] = str(uuid.uuid4())
        request.META["pressroom.began"] = time.monotonic()
        super().prepare(request)

    def handle_response(self, request: HttpRequest, response: HttpResponse) -> None:
        """Tell the client the id, and log how it went."""
        response["X-Request-ID"] = request.META["HTTP_X_REQUEST_ID"]
        took = time.monotonic() - request.META["pressroom.began"]
        structlog.contextvars.bind_contextvars(duration_ms=round(took * 1000))
        super().handle_response(request, response)

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        """Method and path, without the query, and without what in the path is secret."""
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
    """Log what becomes of tasks, and carry the ids into them. In every process, once Django is set up."""
    from django_structlog.celery.receivers import CeleryReceiver
    from django_structlog.celery.signals import bind_extra_task_metadata, modify_context_before_task_publish

    logging.captureWarnings(True)
    receiver = CeleryReceiver()
    receiver.connect_worker_signals()
    _receivers.append(receiver)  # signals hold it weakly
    modify_context_before_task_publish.connect(_ids_only, dispatch_uid="pressroom.logs")
    bind_extra_task_metadata.connect(_bind_name, dispatch_uid="pressroom.logs")
    signals.task_postrun.connect(_forget, dispatch_uid="pressroom.logs")
    # Whoever is connected here keeps Celery from setting up formats of its own.
    signals.setup_logging.connect(_set_level, dispatch_uid="pressroom.logs")


def _ids_only(context: dict[str, Any], **_: object) -> None:
    for name in context.keys() - {"request_id", "parent_task_id"}:
        del context[name]


def _bind_name(task: Task[Any, Any], **_: object) -> None:
    structlog.contextvars.bind_contextvars(task=task.name)


def _forget(**_: object) -> None:
    structlog.contextvars.clear_contextvars()


def _set_level(loglevel: int | None = None, **_: object) -> None:
    """The level of ``-l``, as with plain Celery; else that of the settings, not the default of ``-l``."""
    context = click.get_current_context(silent=True)
    is_given = context is None or context.get_parameter_source("loglevel") is not ParameterSource.DEFAULT
    if loglevel and is_given:
        logging.getLogger().setLevel(loglevel)
