"""Error reports to Sentry, if SENTRY_DSN is set: one event for each failed request and each dead letter.

A retry is not reported. An event holds no personal data: it has ids, the traceback without variables, and the arguments
of a task, which are ids by convention. The URL and the body of a request are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sentry_sdk
import structlog
from celery import current_task
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.scrubber import EventScrubber

from app.observability.logs import PERSONAL
from pressroom import tracing
from pressroom.signals import run_lost

QUERY = re.compile(r"(?<=://)([^\s?]++)\?\S*")

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint


def start(*, dsn: str, environment: str, release: str, traces_sample_rate: float) -> None:
    """Report errors of this process and its children. Call this before Celery's worker builds its tasks' tracers."""
    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release or None,
        traces_sample_rate=traces_sample_rate,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,  # the log has the same information, by request id
        event_scrubber=EventScrubber(recursive=True),
        before_send=_hide,
        before_send_transaction=_hide,
        auto_enabling_integrations=False,
        integrations=[
            DjangoIntegration(middleware_spans=False),
            # Trace headers make each stored call longer, so they are sent only if tracing is on.
            CeleryIntegration(propagate_traces=traces_sample_rate > 0),
            LoggingIntegration(level=None, event_level=None),
            AtexitIntegration(callback=lambda pending, timeout: None),
        ],
    )
    sentry_sdk.get_global_scope().add_event_processor(_describe)
    run_lost.connect(_report_lost, dispatch_uid="pressroom.sentry")


def _report_lost(name: str, celery_id: str, args: Any, kwargs: Any, error: Exception, **_: object) -> None:
    with sentry_sdk.new_scope() as scope:
        scope.set_tags({"task": name, "task_id": celery_id})
        scope.set_extra("task", {"name": name, "args": _masked(args), "kwargs": _masked(kwargs)})
        sentry_sdk.capture_exception(error)


def _describe(event: Event, hint: Hint) -> Event:
    """Add the ids that lead to the log lines and to the run."""
    tags: Any = event.setdefault("tags", {})
    ids = structlog.contextvars.get_contextvars()
    tags.update({name: ids[name] for name in ("request_id", "task_id") if name in ids})
    if tracing.active is not None and (trace := tracing.active.ids()):
        tags["trace_id"] = trace["trace_id"]
        event.setdefault("contexts", {}).setdefault("trace", {}).update(trace)
    task: Any = current_task
    if task and task.request.id:
        tags["task"] = task.name
        details = {"name": task.name, "args": _masked(task.request.args), "kwargs": _masked(task.request.kwargs)}
        event.setdefault("extra", {})["task"] = details
    return event


def _masked(value: Any) -> Any:
    """Return arguments with personal and secret text masked, including the query of a URL."""
    if isinstance(value, str):
        return PERSONAL.sub("***", QUERY.sub(r"\1?***", value))
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, list | tuple) else value


def _hide(event: Event, hint: Hint) -> Event:
    """Remove what may be personal. This runs last, because the integrations add to an event after ``_describe``."""
    event.pop("request", None)
    event.get("contexts", {}).get("trace", {}).pop("data", None)  # the query
    for exception in event.get("exception", {}).get("values", ()):
        exception["value"] = PERSONAL.sub("***", str(exception.get("value", "")))
    return event
