"""Chords and errbacks on the ledger. The transaction of a finish counts the chord and stores the call of errbacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import states
from celery._state import (  # type: ignore[attr-defined]  # the stubs have only one of them
    get_current_worker_task,
    pop_current_task,
    push_current_task,
)
from celery.app.task import Context
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, NotRegistered
from celery.result import allow_join_result, result_from_tuple
from django.db import transaction

from pressroom import context, tracing
from pressroom.enqueue.envelope import HEADER
from pressroom.models import TaskRun
from pressroom.sql import chords
from pressroom.text import is_carried

CALL_ERRBACKS = "pressroom.tasks.call_errbacks"
MOST_ERROR = 10_000
"""Most characters of an error and its traceback, as JSON, that a message carries."""


class ChordsInPostgres:
    """The part of a result backend that counts chords, calls their bodies and calls errbacks."""

    # The backend that this is mixed into has these.
    app: Any
    encode: Any
    decode: Any
    encode_result: Any
    prepare_exception: Any
    exception_to_python: Any
    get_task_meta: Any
    chord_error_from_stack: Any
    _errback_arity_greater: Any

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:
        """Store the shape of the header if it is more than a list of tasks."""
        group_id, results = header_result_args[0], header_result_args[1]
        structure = None
        if isinstance(results, list | tuple) and any(hasattr(result, "results") for result in results):
            result = self.app.GroupResult(*header_result_args)
            structure = self.encode(result.as_tuple())
        chords.save(group_id, structure)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        chords.set_size(group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """Count one more part, which a running part of the header adds."""
        chords.enlarge(chord_id)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        """Count a part of a chord's header with its finish. The last part calls the body."""
        if not request.group or not request.id:
            return
        encoded = self.encode(self.encode_result(result, state))
        task = get_current_worker_task()
        context = task.request_stack.top if task is not None else None

        def count() -> None:
            position = request.group_index if request.group_index is not None else float("inf")
            if chords.count(request.group, request.id, position, state, encoded):
                # The tracer has ended by then, but for Celery the last part has to be the caller of the body.
                with _as_current(task, context):
                    self._call_body(request)

        write_with_finish(count)

    def _call_body(self, request: Any) -> None:
        callback: Any = maybe_signature(request.chord, app=self.app)
        try:
            # A savepoint, because an error in it is the body's failure and not the part's.
            with transaction.atomic():
                results = self._header_results(request.group)
                if tracing.active is None:
                    callback.delay(results)
                else:
                    tracing.active.call_linked(request.group, lambda: callback.delay(results))
        except ChordError as error:
            self.chord_error_from_stack(callback, error)
        except Exception as error:  # noqa: BLE001 - the body must fail and not hang
            failed = ChordError(f"Callback error: {error!r}")
            failed.__cause__ = error
            self.chord_error_from_stack(callback, failed)

    def _header_results(self, group_id: str) -> list[Any]:
        """Return the results in the header's order. Raises ChordError, which names the first part that failed."""
        structure = chords.structure(group_id)
        parts = chords.parts(group_id)
        for celery_id, state, result in parts:
            if state in states.PROPAGATE_STATES:
                error = self.exception_to_python(self.decode(result))
                failed = ChordError(f"Dependency {celery_id} raised {error!r}")
                failed.__cause__ = error if isinstance(error, BaseException) else None
                raise failed
        if structure is None:
            return [self.decode(result) for _, _, result in parts]
        header: Any = result_from_tuple(self.decode(structure), app=self.app)
        with allow_join_result():
            results: list[Any] = header.join(timeout=self.app.conf.result_chord_join_timeout, propagate=True)
        return results

    def _call_task_errbacks(self, request: Any, exc: Any, traceback: Any) -> None:
        """Have a worker call the errbacks once the failure is committed.

        Celery calls errbacks that take the error at once, before the failure is visible, and in the process that writes
        it. Here a task of their own, which is stored with the failure, calls them.
        """
        if self.app.conf.task_always_eager or (request.delivery_info or {}).get("is_eager", False):
            super()._call_task_errbacks(request, exc, traceback)  # type: ignore[misc]
            return
        wanting: list[Any] = []
        others: list[Any] = []
        for errback in request.errbacks:
            (wanting if self._may_want_error(errback) else others).append(errback)
        if others:
            super()._call_task_errbacks(_with_errbacks(request, others), exc, traceback)  # type: ignore[misc]
        if wanting:
            error, text = self.prepare_exception(exc, "json"), str(traceback or "")
            short = len(self.encode(error)) + len(text) <= MOST_ERROR
            self.app.tasks[CALL_ERRBACKS].apply_async(
                (_portable(request), wanting, error if short else None, text if short else None),
                queue=(request.delivery_info or {}).get("routing_key"),
                root_id=request.root_id or request.id,
                parent_id=request.id,
                add_to_parent=False,
            )

    def _may_want_error(self, errback: Any) -> bool:
        """Return whether Celery may pass it request and error: it does, or this process does not know its task."""
        signature = self.app.signature(errback)
        try:
            task = signature.type
        except NotRegistered:
            return True
        has_header = hasattr(task, "__header__") and not isinstance(task.__header__, partial)
        return has_header and bool(self._errback_arity_greater(signature, 1))

    def call_errbacks(self, request: dict[str, Any], errbacks: list[Any], error: Any, traceback: str | None) -> None:
        """Call errbacks that take the error, as the task that failed, which becomes the parent of what they call.

        ``error`` has the form that the backend keeps. If it is None, it is too long for a message and is read from the
        task's result.
        """
        context = _context_of(request)
        if error is None:
            meta = self.get_task_meta(context.id, cache=False)
            error, traceback = meta["result"], meta["traceback"]
        task = self.app.tasks.get(context.get("task"))
        with _as_current(task, context):
            super()._call_task_errbacks(  # type: ignore[misc]
                _with_errbacks(context, errbacks), self.exception_to_python(error), traceback or None
            )

    def save_group(self, group_id: str, result: Any) -> Any:
        chords.save(group_id, self.encode(result.as_tuple()))
        return result

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        structure = chords.structure(group_id) if is_carried(group_id) else None
        return None if structure is None else result_from_tuple(self.decode(structure), app=self.app)

    def delete_group(self, group_id: str) -> None:
        chords.delete(group_id)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing: a caller must not wait for Redis. Whoever asks for a result subscribes then."""


def write_with_finish(write: Callable[[], object]) -> None:
    """Call ``write`` in the finish of the run that this thread executes, or else now in a transaction."""
    running = context.current()
    if running is not None and running.finishing:
        running.with_finish(write)
        return
    with transaction.atomic():
        write()


@contextmanager
def _as_current(task: Any, context: Any) -> Iterator[None]:
    """Make ``task`` with this request the current task for Celery. Does nothing if one of them is None."""
    if task is None or context is None:
        yield
        return
    push_current_task(task)
    task.request_stack.push(context)
    try:
        yield
    finally:
        task.request_stack.pop()
        pop_current_task()


def _with_errbacks(request: Any, errbacks: list[Any]) -> Context:
    return Context(vars(request), errbacks=errbacks)


def _portable(request: Any) -> dict[str, Any]:
    """Return what a worker needs to rebuild the request: the key of a run, or the signature of a chord's body."""
    if getattr(request, HEADER, None) is not None:
        known: dict[str, Any] = {HEADER: {"id": getattr(request, HEADER)["id"]}}
    else:
        known = {name: value for name, value in vars(request).items() if name not in ("errbacks", "_children")}
    # These are no part of the message, so the row does not have them.
    return {**known, "id": request.id, "hostname": request.hostname, "delivery_info": request.delivery_info}


def _context_of(request: dict[str, Any]) -> Context:
    known: dict[str, Any] = {}
    if HEADER in request:
        run = TaskRun.objects.filter(pk=request[HEADER]["id"]).first()
        if run is not None:
            args, kwargs, embed = json.loads(run.body)
            properties = json.loads(run.properties)
            known = {
                **json.loads(run.headers),
                "args": args,
                "kwargs": kwargs,
                **(embed or {}),
                "properties": properties,
            }
    return Context({**known, **request, "called_directly": False})
