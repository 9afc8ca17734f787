"""Celery's result backends on the ledger: a result is never told before the commit of the finish that made it.

`LedgerBackend` is the default: a result is what its run says. `RedisLedgerBackend` keeps the results in Redis,
written after the commit. Chords are counted in Postgres under both, in the finishing transactions of their parts.
"""

from __future__ import annotations

import json
import time
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.backends.redis import RedisBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, TaskRevokedError, WorkerLostError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import allow_join_result, result_from_tuple
from django.db import connection, transaction

from app.taskruns import execution, groups, outcomes
from app.taskruns.messages import HEADER
from app.taskruns.models import Status, StoredResult, TaskRun, Worker
from app.text import carried

CELERY_STATES = {
    Status.QUEUED: states.PENDING,
    Status.RUNNING: states.STARTED,
    Status.RETRYING: states.RETRY,
    Status.SUCCEEDED: states.SUCCESS,
    Status.DEAD: states.FAILURE,
    Status.CANCELLED: states.REVOKED,
    Status.EXPIRED: states.REVOKED,
    Status.REPLACED: states.STARTED,
}
# The stubs know half of these classes, and that half differently.
_Base: Any = BaseBackend
_Redis: Any = RedisBackend
LONGEST_POLL = 0.5
"""Seconds between two looks of ``get()``; it begins with 10 ms."""


class _ChordsInPostgres:
    """What both backends share: the chord's count, and who may tell of a run's end."""

    # Of the backend that this is mixed into.
    app: Any
    encode: Any
    decode: Any
    encode_result: Any
    exception_to_python: Any

    def mark_as_failure(
        self, task_id: str, exc: Any, traceback: Any = None, request: Any = None, **options: Any
    ) -> None:
        if not _is_ours_to_tell(request):
            return
        super().mark_as_failure(task_id, exc, traceback=traceback, request=request, **options)  # type: ignore[misc]
        _tell_unrun(request, exc, outcomes.Outcome.FAILED)

    def mark_as_revoked(self, task_id: str, reason: str = "", request: Any = None, **options: Any) -> None:
        if not _is_ours_to_tell(request):
            return
        super().mark_as_revoked(task_id, reason, request=request, **options)  # type: ignore[misc]
        _tell_unrun(request, TaskRevokedError(reason), outcomes.Outcome.CANCELLED)

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> Any:
        """As Celery's; what waits for the body, or for what comes after it, learns that it never runs."""
        told = super().chord_error_from_stack(callback, exc)  # type: ignore[misc]
        steps = outcomes.waited_for([callback])
        if steps:
            root_id = callback.options.get("root_id") or callback.id or ""
            _write(lambda: outcomes.tell_unrun(steps, root_id, exc, outcomes.Outcome.FAILED))
        return told

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:
        """Remember the header's shape where it is more than a list of tasks."""
        group_id, results = header_result_args[0], header_result_args[1]
        structure = None
        if isinstance(results, list | tuple) and any(hasattr(result, "results") for result in results):
            result = self.app.GroupResult(*header_result_args)
            structure = self.encode(result.as_tuple())
        groups.save(group_id, structure)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        groups.set_size(group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """A running part of the header adds another one."""
        groups.enlarge(chord_id)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        """A part of a chord's header has ended: counted with its finish; the last one calls the body."""
        if not request.group or not request.id:
            return
        encoded = self.encode(self.encode_result(result, state))

        def count() -> None:
            position = request.group_index if request.group_index is not None else float("inf")
            if groups.count(request.group, request.id, position, state, encoded):
                self._call_body(request)

        _write(count)

    def _call_body(self, request: Any) -> None:
        callback: Any = maybe_signature(request.chord, app=self.app)
        try:
            # Of its own: what fails in it is the body's failure, not the part's.
            with transaction.atomic():
                callback.delay(self._header_results(request.group))
        except ChordError as error:
            self.chord_error_from_stack(callback, error)
        except Exception as error:  # noqa: BLE001 - whatever keeps the body from being called, it must not hang
            failed = ChordError(f"Callback error: {error!r}")
            failed.__cause__ = error
            self.chord_error_from_stack(callback, failed)

    def _header_results(self, group_id: str) -> list[Any]:
        """In the header's order. Raises ChordError naming the first part that failed."""
        structure = groups.structure(group_id)
        parts = groups.parts(group_id)
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

    def save_group(self, group_id: str, result: Any) -> Any:
        groups.save(group_id, self.encode(result.as_tuple()))
        return result

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        structure = groups.structure(group_id)
        return None if structure is None else result_from_tuple(self.decode(structure), app=self.app)

    def delete_group(self, group_id: str) -> None:
        groups.delete(group_id)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing: who asks for a result subscribes then; a caller must not wait for Redis."""


def _is_ours_to_tell(request: Any) -> bool:
    """Of a run's end, only its execution and `terminal.tell` speak; Celery's main process has not asked the fence."""
    if getattr(request, HEADER, None) is None:
        return True
    return execution.current() is not None or getattr(request, "told_by_ledger", False)


def _tell_unrun(request: Any, error: BaseException, outcome: outcomes.Outcome) -> None:
    """The rest of a chain, and what was linked to a task, will never run."""
    steps = outcomes.waited_for([getattr(request, "chain", None), getattr(request, "callbacks", None)])
    if steps:
        root_id = request.root_id or request.id or ""
        _write(lambda: outcomes.tell_unrun(steps, root_id, error, outcome))


def _write(write: Any) -> None:
    """With the finish of the run that this thread executes, or now, in one transaction."""
    running = execution.current()
    if running is not None and running.finishing:
        running.with_finish(write)
        return
    with transaction.atomic():
        write()


class LedgerBackend(_ChordsInPostgres, _Base):  # type: ignore[misc]  # see _Base
    """Reads runs by their Celery id; what a task returns is written by its finish."""

    persistent = True
    supports_native_join = False

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        running = execution.current()
        if running is not None and running.celery_id == task_id and running.finishing:
            if state in states.READY_STATES:
                running.result = self.encode(result)
                running.children = self.encode(self.current_task_children(request))
            return result
        # Of a run, its execution alone stores here: a state that the task made up, with `update_state`.
        if running is not None or getattr(request, HEADER, None) is None:
            encoded = self.encode(result)
            text = carried(traceback or "")
            _write(lambda: groups.store(task_id, state, encoded, text))
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        run = TaskRun.objects.filter(celery_id=task_id).defer("body", "properties").order_by("-id").first()
        undecided = run is None or run.status in (Status.RUNNING, Status.REPLACED, Status.QUEUED)
        stored = StoredResult.objects.filter(celery_id=task_id).first() if undecided else None
        meta: dict[str, Any] = {"task_id": task_id, "result": None, "traceback": None, "children": []}
        if stored is not None:
            meta |= {"status": stored.state, "traceback": stored.traceback or None, "date_done": stored.stored_at}
            decoded: dict[str, Any] = self.meta_from_decoded(meta | {"result": self.decode(stored.result)})
            return decoded
        if run is None:
            return meta | {"status": states.PENDING}
        meta |= {"status": CELERY_STATES[Status(run.status)], "traceback": run.traceback or None}
        meta |= {"date_done": run.finished_at, "result": self._result_of(run, meta["status"])}
        if run.children is not None:
            meta["children"] = self.decode(run.children)
        return meta | self._extended(run)

    def _extended(self, run: TaskRun) -> dict[str, Any]:
        headers = json.loads(run.headers)
        known = {"group_id": headers.get("group"), "parent_id": headers.get("parent_id")}
        if self.app.conf.find_value_for_key("extended", "result"):
            args, kwargs = run.arguments
            known |= {"name": run.name, "args": args, "kwargs": kwargs, "queue": run.queue}
            # It may be gone: a run may be kept for longer than its worker.
            worker = Worker.objects.filter(pk=run.worker_id or 0).values_list("name", flat=True).first()
            known |= {"retries": headers["retries"], "worker": worker}
            known |= {"stamped_headers": headers.get("stamped_headers"), **(headers.get("stamps") or {})}
        return {name: value for name, value in known.items() if value is not None}

    def _result_of(self, run: TaskRun, state: str) -> Any:
        if state == states.REVOKED:
            return TaskRevokedError("revoked" if run.status == Status.CANCELLED else run.status)
        if state == states.STARTED:
            return None
        if state in states.EXCEPTION_STATES:
            if run.result is not None:
                return self.exception_to_python(self.decode(run.result))
            kind = WorkerLostError if run.error_type == "WorkerLostError" else Exception
            return kind(run.error)
        return None if run.result is None else self.decode(run.result)

    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = LONGEST_POLL, no_ack: bool = True,
        on_interval: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The result's meta once it is there. Raises celery.exceptions.TimeoutError."""
        self._ensure_not_eager()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = min(0.01, interval)
        while True:
            meta: dict[str, Any] = self.get_task_meta(task_id)
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
            if deadline is not None and time.monotonic() + pause > deadline:
                raise CeleryTimeoutError("The operation timed out.")
            time.sleep(pause)
            pause = min(pause * 1.5, interval)

    def _forget(self, task_id: str) -> None:
        TaskRun.objects.filter(celery_id=task_id, finished_at__isnull=False).update(result=None, children=None)
        StoredResult.objects.filter(celery_id=task_id).delete()


class RedisLedgerBackend(_ChordsInPostgres, _Redis):  # type: ignore[misc]  # see _Base
    """Celery's results in Redis, written once the finish is committed; lost with Redis, as ever there."""

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        running = execution.current()
        if connection.in_atomic_block:
            transaction.on_commit(
                lambda: super(RedisLedgerBackend, self).store_result(task_id, result, state, *args, **kwargs)
            )
            return result
        if running is None or not running.finishing or state not in states.READY_STATES:
            return super().store_result(task_id, result, state, *args, **kwargs)
        # Now, so that what is no JSON fails the task; the children too are to be had only now.
        self.encode(self.encode_result(result, state))
        later = super().store_result
        running.after_finish(lambda: later(task_id, result, state, *args, **kwargs))
        return result
