"""The spans of a call: send, wait, process, finish. Imported only if tracing is on.

The context of "send" is stored with the call, in the headers of its message. So every attempt belongs to its trace,
in whatever process and however much later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pressroom import context

logger = logging.getLogger(__name__)
T = TypeVar("T")

LINKS = "tracelinks"
"""The header that names the parts of the chord whose body the call is."""
MOST_LINKS = 100
_propagator = TraceContextTextMapPropagator()
_links: ContextVar[list[str]] = ContextVar("taskruns_links", default=[])  # noqa: B039 - never changed


def attempt_id(run_id: uuid.UUID, number: int) -> int:
    """Return the id of an attempt's span. It follows from the run, so a killed attempt can be linked to as well."""
    return int.from_bytes(hashlib.blake2b(f"{run_id}:{number}".encode(), digest_size=8).digest()) or 1


class Tracing:
    """Makes the spans of this process."""

    def __init__(self, tracer: Tracer, next_span_id: ContextVar[int | None]) -> None:
        self._tracer = tracer
        self._next_span_id = next_span_id

    def ids(self) -> dict[str, str]:
        """Return the ids of the current trace and span for a log line, or nothing outside a trace."""
        here = trace.get_current_span().get_span_context()
        if not here.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(here.trace_id), "span_id": trace.format_span_id(here.span_id)}

    # ---- Calls -------------------------------------------------------------------------------------------------------

    def sender(self, queue_name: Callable[..., str], send: Callable[..., None]) -> Callable[..., None]:
        """Return ``send`` in a span, whose context it adds to the message's headers."""

        def send_traced(
            producer: Any, name: str, message: Any, exchange: Any = None, routing_key: str | None = None,
            queue: Any = None, headers: dict[str, Any] | None = None, **options: Any,
        ) -> None:  # fmt: skip
            running = context.current()
            celery_id = message.headers["id"]
            given = dict(headers) if isinstance(headers, dict) else headers
            destination = {"exchange": exchange, "routing_key": routing_key, "queue": queue}
            if running is not None and running.celery_id == celery_id:
                # The run goes on: a retry, or a task in its place. Its trace is that of its call.
                kept = {key: running.request[key] for key in _stored(running.request)}
                send(producer, name, message, headers={**kept, **(given or {})}, **destination, **options)
                return
            attributes = {
                **_of_message("send", name, queue_name(**destination), celery_id),
                "messaging.message.conversation_id": message.headers["root_id"] or celery_id,
            }
            links = [link for link in map(_as_link, _links.get()) if link is not None]
            with self._tracer.start_as_current_span(
                f"send {name}", kind=SpanKind.PRODUCER, attributes=attributes, links=links
            ):
                if given is None or isinstance(given, dict):
                    given = {**(given or {})}
                    # A caller's own header wins: it continues the trace of another system.
                    if "traceparent" not in given:
                        _propagator.inject(given)
                    if links:
                        given[LINKS] = _links.get()
                send(producer, name, message, headers=given, **destination, **options)

        return send_traced

    def call_linked(self, group_id: str, call: Callable[[], object]) -> None:
        """Call a chord's body, with links to the spans of the header's parts."""
        token = _links.set(_parts(group_id))
        try:
            call()
        finally:
            _links.reset(token)

    # ---- Runs --------------------------------------------------------------------------------------------------------

    def attempt(self, running: Any, perform: Callable[[], T]) -> T:
        """Execute a claimed run in the spans "wait" (before it) and "process"."""
        claim, request, name = running.claim, running.request, running.task.name
        parent, now = _parent(request), time.time_ns()
        queue = (request.get("delivery_info") or {}).get("routing_key") or ""
        waited = self._tracer.start_span(
            f"wait {name}", parent, start_time=now - int(claim.waited * 1e9),
            attributes=_of_message("wait", name, queue, running.celery_id, kind=None),
        )  # fmt: skip
        waited.end(now)
        span = self._start_attempt(
            name, queue, running.celery_id, claim.run_id, claim.attempt, request, parent, now, request.get("hostname")
        )
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                return perform()
            finally:
                # An attempt that lost its claim was recorded by the process that gave its run to another worker.
                if not running.is_lost:
                    span.end()

    def body_ended(self, running: Any, outcome: Any) -> None:
        """Note the outcome of the attempt, and begin the span "finish", which ends with the commit."""
        span = trace.get_current_span()
        span.set_attribute("celery.state", outcome.state)
        if outcome.failure is not None:
            _note_error(span, outcome.failure, outcome.state != "RETRY")
        finish = self._tracer.start_span(f"finish {running.task.name}", attributes={"celery.state": outcome.state})
        running.after_finish(finish.end)

    def lost(self, run_ids: Iterable[uuid.UUID]) -> None:
        """Make the spans of attempts whose process was killed, from what the ledger has of them."""
        if context.current() is not None:
            return  # the attempt that runs here has its span
        try:
            for attempt, run, headers in _lost_attempts(list(run_ids)):
                request = {**headers, "root_id": headers.get("root_id")}
                span = self._start_attempt(
                    run.name, run.queue, run.celery_id, run.pk, attempt.number, request, _parent(request),
                    int(attempt.started_at.timestamp() * 1e9), attempt.worker_name,
                )  # fmt: skip
                _note_error(span, attempt, is_error=True)
                span.end(int(attempt.finished_at.timestamp() * 1e9))
        except Exception:
            logger.exception("the spans of lost attempts could not be made")

    def _start_attempt(
        self, name: str, queue: str, celery_id: str, run_id: uuid.UUID, number: int, request: dict[str, Any],
        parent: Context, began: int, worker: str | None,
    ) -> trace.Span:  # fmt: skip
        caller = trace.get_current_span(parent).get_span_context()
        links = [link for link in map(_as_link, request.get(LINKS) or ()) if link is not None]
        if number > 1 and caller.is_valid:
            before = SpanContext(caller.trace_id, attempt_id(run_id, number - 1), True, TraceFlags(caller.trace_flags))
            links.append(Link(before, {"pressroom.link": "the attempt before"}))
        self._next_span_id.set(attempt_id(run_id, number))
        return self._tracer.start_span(
            f"process {name}", parent, SpanKind.CONSUMER,
            {
                **_of_message("process", name, queue, celery_id),
                "messaging.message.conversation_id": request.get("root_id") or celery_id,
                "pressroom.run.id": str(run_id),
                "pressroom.attempt": number,
                "pressroom.worker": worker or "",
            },
            links=links, start_time=began,
        )  # fmt: skip


def _of_message(operation: str, task: str, queue: str, celery_id: str, kind: str | None = "") -> dict[str, str]:
    """Return the attributes that OpenTelemetry's conventions for messaging name."""
    attributes = {
        "messaging.system": "pressroom",
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
        "messaging.message.id": celery_id,
        "celery.task_name": task,
    }
    return attributes if kind is None else attributes | {"messaging.operation.type": kind or operation}


def _note_error(span: trace.Span, failure: Any, is_error: bool) -> None:
    """Record an error, which is one of the ledger: text."""
    attributes = {"exception.type": failure.error_type, "exception.message": failure.error}
    span.add_event("exception", {**attributes, "exception.stacktrace": failure.traceback})
    if is_error:
        span.set_attribute("error.type", failure.error_type)
        span.set_status(Status(StatusCode.ERROR, failure.error))


def _stored(request: dict[str, Any]) -> list[str]:
    return [name for name in ("traceparent", "tracestate", LINKS) if request.get(name)]


def _parent(request: dict[str, Any]) -> Context:
    """Return the context of the call. Whatever else stands in the headers makes a new trace."""
    texts = {name: request[name] for name in ("traceparent", "tracestate") if isinstance(request.get(name), str)}
    return _propagator.extract(texts, Context())


def _as_link(traceparent: Any) -> Link | None:
    found = trace.get_current_span(_parent({"traceparent": traceparent})).get_span_context()
    return Link(found, {"pressroom.link": "a part of the chord"}) if found.is_valid else None


def _parts(group_id: str) -> list[str]:
    """Return, as ``traceparent`` headers, the last attempts of a chord's parts: some of them if there are many."""
    from pressroom.models import ChordPart, TaskCall, TaskRun

    parts = ChordPart.objects.filter(group_id=group_id).order_by("-position").values_list("celery_id", flat=True)
    runs = TaskRun.objects.filter(celery_id__in=list(parts[:MOST_LINKS])).values_list("pk", "attempt")
    attempts = dict(runs)
    found = []
    for run_id, headers in TaskCall.objects.filter(pk__in=attempts).values_list("pk", "headers"):
        fields = str(json.loads(headers).get("traceparent")).split("-")
        if len(fields) == 4:
            found.append(f"{fields[0]}-{fields[1]}-{attempt_id(run_id, attempts[run_id]):016x}-{fields[3]}")
    return found


def _lost_attempts(run_ids: list[uuid.UUID]) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Return the newest attempt of each run, if it did not end in its own process, with the run and its headers."""
    from pressroom.models import TaskAttempt, TaskCall, TaskRun

    runs = {run.pk: run for run in TaskRun.objects.filter(pk__in=run_ids)}
    headers = dict(TaskCall.objects.filter(pk__in=run_ids).values_list("pk", "headers"))
    newest = {attempt.run_id: attempt for attempt in TaskAttempt.objects.filter(run_id__in=run_ids).order_by("number")}
    return [
        (attempt, runs[run_id], json.loads(headers[run_id]))
        for run_id, attempt in newest.items()
        if run_id in runs and run_id in headers and attempt.started_at is not None
    ]
