"""Celery's result backends on the ledger. No result is visible before the commit of the finish that wrote it.

`LedgerBackend`, the default, reads results from the runs. `RedisLedgerBackend` does the same and writes a copy to Redis
after the commit, for other programs to read: see docs/decisions/0017.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError, WorkerLostError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from django.db import connection, transaction
from kombu.exceptions import EncodeError

from pressroom import context
from pressroom.celery_app.chord_results import ChordsInPostgres, write_with_finish
from pressroom.celery_app.redis_copy import RedisCopy
from pressroom.celery_app.uncommitted import refuse_uncommitted
from pressroom.enqueue import arguments
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import end_hooks
from pressroom.execution.outcome import CELERY_STATES
from pressroom.models import EndedRun, LiveRun, Status, StoredResult, TaskCall, Worker
from pressroom.sql import chords
from pressroom.sql.runs import LONGEST_ERROR
from pressroom.text import carried, is_carried

# The stubs cover half of this class, with other signatures.
_Base: Any = BaseBackend
LONGEST_POLL = 0.5
"""Most seconds between two polls of ``get()``, which begins with 10 ms."""


class LedgerBackend(ChordsInPostgres, _Base):  # type: ignore[misc]  # see _Base
    """Reads results from runs, by their Celery id. The finish of a run writes its result."""

    persistent = True
    supports_native_join = False
    keeps_only_runs = True
    """The end of a run is nowhere but in its row: see `pressroom.execution.settle`. A subclass has to say so anew."""

    def mark_as_failure(
        self, task_id: str, exc: Any, traceback: Any = None, request: Any = None, **options: Any
    ) -> None:
        if not _may_report_end(request):
            return
        super().mark_as_failure(task_id, exc, traceback=traceback, request=request, **options)
        _tell_unrun(request, exc, end_hooks.Outcome.FAILED)

    def mark_as_revoked(self, task_id: str, reason: str = "", request: Any = None, **options: Any) -> None:
        if not _may_report_end(request):
            return
        super().mark_as_revoked(task_id, reason, request=request, **options)
        _tell_unrun(request, TaskRevokedError(reason), end_hooks.Outcome.CANCELLED)

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> Any:
        """Fail the chord, as Celery's does, and call ``on_end`` for the body and later steps, which never run."""
        result = super().chord_error_from_stack(callback, exc)
        steps = end_hooks.waited_for([callback])
        if steps:
            root_id = callback.options.get("root_id") or callback.id or ""
            write_with_finish(lambda: end_hooks.tell_unrun(steps, root_id, exc, end_hooks.Outcome.FAILED))
        return result

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        running = context.current()
        if running is not None and running.celery_id == task_id and running.finishing:
            if state in states.READY_STATES or state == states.RETRY:
                running.result = self._encoded(running.task.name, result, state)
                running.children = self.encode(self.current_task_children(request))
            return result
        # For a run, only its own execution stores here: a state of the task's own, by `update_state`.
        if running is not None or getattr(request, HEADER, None) is None:
            if not isinstance(state, str) or not is_carried(state):
                raise TypeError(f"a state is text, not {state!r:.200}")
            encoded = self._encoded(str(task_id), result, state)
            text = carried(traceback or "")
            children = self.encode(self.current_task_children(request))
            write_with_finish(lambda: chords.store(task_id, state, encoded, text, children))
        return result

    def _encoded(self, name: str, result: Any, state: str) -> str:
        """Return the result as JSON. Raises EncodeError if it has no such form; of an error, keeps the text instead."""
        try:
            return arguments.encoded(name, result)
        except EncodeError:
            if state not in states.EXCEPTION_STATES:
                raise
            return arguments.encoded(name, {**result, "exc_message": [carried(result["exc_message"])[:LONGEST_ERROR]]})

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        if not isinstance(task_id, str) or not is_carried(task_id):
            # No run can have this id.
            return {"task_id": task_id, "result": None, "traceback": None, "children": [], "status": states.PENDING}
        # Whoever waits asks for a live run, again and again. One index has those; each day of ended runs has its own.
        run: LiveRun | EndedRun | None = LiveRun.objects.filter(celery_id=task_id).first()
        if run is None:
            run = EndedRun.objects.filter(celery_id=task_id).order_by("-id").first()
        undecided = run is None or run.status in (Status.RUNNING, Status.REPLACED, Status.QUEUED)
        stored = StoredResult.objects.filter(celery_id=task_id).first() if undecided else None
        if run is not None and stored is not None and stored.stored_at < (run.started_at or run.created_at):
            # An earlier run with the same id, or an earlier attempt, stored it.
            stored = None
        meta: dict[str, Any] = {"task_id": task_id, "result": None, "traceback": None, "children": []}
        if stored is not None:
            meta |= {"status": stored.state, "traceback": stored.traceback or None, "date_done": stored.stored_at}
            meta["children"] = self.decode(stored.children) or []
            decoded: dict[str, Any] = self.meta_from_decoded(meta | {"result": self.decode(stored.result)})
            return decoded
        if run is None:
            return meta | {"status": states.PENDING}
        meta |= {"status": CELERY_STATES[run.status], "traceback": run.traceback or None}
        meta |= {"date_done": run.finished_at, "result": self._result_of(run, meta["status"])}
        if run.children is not None:
            meta["children"] = self.decode(run.children)
        return meta | self._extended(run)

    def _extended(self, run: LiveRun | EndedRun) -> dict[str, Any]:
        # Not the whole message, which may be long. It is gone if the run was pruned a moment ago.
        text = TaskCall.objects.filter(pk=run.pk).values_list("headers", flat=True).first()
        if text is None:
            return {}
        headers = json.loads(text)
        known = {"group_id": headers.get("group"), "parent_id": headers.get("parent_id")}
        if self.app.conf.find_value_for_key("extended", "result"):
            args, kwargs = run.arguments
            known |= {"name": run.name, "args": args, "kwargs": kwargs, "queue": run.queue}
            # The worker's row may be gone: a run may be kept for longer.
            worker = Worker.objects.filter(pk=run.worker_id or 0).values_list("name", flat=True).first()
            known |= {"retries": headers["retries"], "worker": worker}
            known |= {"stamped_headers": headers.get("stamped_headers"), **(headers.get("stamps") or {})}
        return {name: value for name, value in known.items() if value is not None}

    def _result_of(self, run: LiveRun | EndedRun, state: str) -> Any:
        if state == states.REVOKED:
            return TaskRevokedError("revoked" if run.status == Status.CANCELLED else run.status)
        if state not in states.READY_STATES and state != states.RETRY:
            return None
        if state in states.EXCEPTION_STATES:
            encoded = None if run.result is None else self.decode(run.result)
            if encoded is not None:
                return self.exception_to_python(encoded)
            if state == states.RETRY:
                return None
            kind = WorkerLostError if run.error_type == "WorkerLostError" else Exception
            return kind(run.error)
        return None if run.result is None else self.decode(run.result)

    def wait_for_pending(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for a result, as Celery's does. Raises RuntimeError if this transaction has yet to commit the call."""
        if self.get_state(result.id) not in states.READY_STATES:
            refuse_uncommitted(result)
        return super().wait_for_pending(result, *args, **kwargs)

    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = LONGEST_POLL, no_ack: bool = True,
        on_interval: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Wait for the result and return its meta. Raises celery.exceptions.TimeoutError after ``timeout`` seconds."""
        self._ensure_not_eager()
        now = time.monotonic()
        deadline = None if timeout is None else now + timeout
        pause, look = min(0.01, interval), now + interval
        while True:
            meta: dict[str, Any] = self.get_task_meta(task_id)
            now = time.monotonic()
            is_ready, failed = meta["status"] in states.READY_STATES, meta["status"] in states.PROPAGATE_STATES
            if on_interval and (failed or (not is_ready and now >= look)):
                # Raises the error of an earlier task in the chain, if that caused this failure, as Celery does.
                on_interval()
                look = now + interval
            if is_ready:
                return meta
            if deadline is not None and now + pause > deadline:
                raise CeleryTimeoutError("The operation timed out.")
            time.sleep(pause)
            pause = min(pause * 1.5, interval)

    def _forget(self, task_id: str) -> None:
        EndedRun.objects.filter(celery_id=task_id).update(result=None, children=None)
        StoredResult.objects.filter(celery_id=task_id).delete()


class RedisLedgerBackend(LedgerBackend):
    """The ledger's results, with a copy in Redis after the commit. A Redis that loses its data loses the copies."""

    supports_failure_expires = True

    def __init__(self, *args: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, url=url, **kwargs)
        self.copy = RedisCopy(app=self.app, url=url)

    @property
    def client(self) -> Any:
        """The client of the Redis that has the copies."""
        return self.copy.client

    def get_key_for_task(self, task_id: str) -> Any:
        """Return the key of a task's copy."""
        return self.copy.get_key_for_task(task_id)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        # Built now, because the children are known only while the task is the current one.
        write = self.copy.of_result(task_id, result, state, traceback, request)
        value = super()._store_result(task_id, result, state, traceback, request, **kwargs)
        if state == states.STARTED:
            # The claim is committed already, and the body may have a transaction of its own.
            write()
        else:
            _after_commit(write)
        return value

    def _forget(self, task_id: str) -> None:
        super()._forget(task_id)
        _after_commit(self.copy.without_result(task_id))

    def save_group(self, group_id: str, result: Any) -> Any:
        _after_commit(self.copy.of_group(group_id, result))
        return super().save_group(group_id, result)

    def delete_group(self, group_id: str) -> None:
        super().delete_group(group_id)
        _after_commit(self.copy.without_group(group_id))


def _after_commit(write: Callable[[], None]) -> None:
    """Call ``write`` after the finish of this thread's run, or after the open transaction's commit, or else now."""
    running = context.current()
    if running is not None and running.finishing:
        running.after_finish(write)
    elif connection.in_atomic_block:
        transaction.on_commit(write, robust=True)
    else:
        write()


def _tell_unrun(request: Any, error: BaseException, outcome: end_hooks.Outcome) -> None:
    """Call ``on_end`` for the rest of a chain and for linked tasks, which will never run."""
    steps = end_hooks.waited_for([getattr(request, "chain", None), getattr(request, "callbacks", None)])
    if steps:
        root_id = request.root_id or request.id or ""
        write_with_finish(lambda: end_hooks.tell_unrun(steps, root_id, error, outcome))


def _may_report_end(request: Any) -> bool:
    """Return whether this process may report the end: for a run, only its execution and `settle` may.

    Celery's own code in the worker's main process reports ends too, without a check that the claim still holds.
    """
    if getattr(request, HEADER, None) is None:
        return True
    return context.current() is not None or getattr(request, "ended_by_ledger", False)
