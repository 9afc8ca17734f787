"""One Celery task for each ``@task`` function, under the function's own dotted path.

So pages, metrics, limits and dead letters show the function, and nothing in them knows of the framework.
"""

from __future__ import annotations

from datetime import datetime
from inspect import iscoroutinefunction
from typing import Any

from celery import Task as CeleryTask
from celery import current_app, shared_task
from celery.exceptions import Ignore, Reject, Retry
from celery.signals import task_revoked
from django.utils import timezone

from pressroom import context
from pressroom.django_tasks import greenlets, results
from pressroom.django_tasks.exceptions import STAND_INS
from pressroom.django_tasks.framework import (
    InvalidTask,
    Task,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from pressroom.django_tasks.registered import find, tasks
from pressroom.signals import run_lost

NO_HOOK = (Ignore, Reject, Retry)
"""The exceptions after which Celery calls neither hook."""
_begun: dict[str, TaskResult[Any]] = {}
"""The results of the calls that this process executes, by their Celery id, until a hook of the task has its outcome."""


def register(task: Task[..., Any]) -> None:
    """Make a ``@task`` known to Celery, in this and every later application. Repeated calls have no effect."""
    name = task.module_path
    known = tasks.get(name)
    if known is None or known.func is not task.func:
        tasks[name] = task
    if known is None:

        @shared_task(name=name, bind=True, base=DjangoTask)
        def run(self: DjangoTask, *args: Any, **kwargs: Any) -> Any:
            return self.run_function(args, kwargs)


def celery_task(task: Task[..., Any]) -> Any:
    """Return the Celery task of a ``@task`` that is registered. Raises InvalidTask if another task has its name."""
    found = current_app.tasks[task.module_path]
    if not isinstance(found, DjangoTask):
        raise InvalidTask(f"Celery has another task of the name {task.module_path}.")
    return found


def load(name: str) -> bool:
    """Import and register the ``@task`` with this dotted path. Returns False if there is none."""
    task = find(name)
    if task is None:
        return False
    # Its module registers it, unless it declares it for another backend.
    register(task)
    return True


class DjangoTask(CeleryTask):  # type: ignore[type-arg]  # generic in the stubs only
    """Calls a ``@task`` function and sends the framework's signals."""

    def run_function(self, args: Any, kwargs: Any) -> Any:
        """Call the function. Returns what it returned, in JSON's types; raises TypeError if that has no such form."""
        result = self._begun(args, kwargs)
        _begun[result.id] = result
        task_started.send(type(result.task.get_backend()), task_result=result)
        positional = (TaskContext(task_result=result), *args) if result.task.takes_context else args
        try:
            return normalize_json(_call(result.task, positional, kwargs))
        except BaseException as error:
            for kind, stand_in in STAND_INS.items():
                if isinstance(error, kind):
                    raise stand_in(*error.args).with_traceback(error.__traceback__) from None
            if isinstance(error, NO_HOOK) or not isinstance(error, Exception):
                del _begun[result.id]
            raise

    def _begun(self, args: Any, kwargs: Any) -> TaskResult[Any]:
        """Return the result of this call while it runs."""
        request, running = self.request, context.current()
        if running is not None and running.claim.attempt > 1 and (known := results.get(request.id or "")) is not None:
            return known
        declared = tasks[self.name]
        header = getattr(request, results.HEADER, None)
        queue = (request.delivery_info or {}).get("routing_key") or declared.queue_name
        priority = (getattr(request, "properties", None) or {}).get("priority")
        now = timezone.now()
        return TaskResult(
            task=results.called(declared, header, queue, -declared.priority if priority is None else priority),
            id=request.id or "",
            status=TaskResultStatus.RUNNING,
            enqueued_at=datetime.fromisoformat(header["enqueued_at"]) if header else now,
            started_at=now,
            last_attempted_at=now,
            finished_at=None,
            args=args,
            kwargs=kwargs,
            backend=header["backend"] if header else declared.backend,
            errors=[],
            worker_ids=[request.hostname or ""],
        )

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Send the signal of a success once it is committed."""
        self._finish(task_id, TaskResultStatus.SUCCESSFUL, retval, None)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Send the signal of a failure once it is committed."""
        self._finish(task_id, TaskResultStatus.FAILED, exc, einfo)

    def _finish(self, task_id: str, status: Any, value: Any, einfo: Any) -> None:
        result, running = _begun.pop(task_id or "", None), context.current()
        if result is None:
            return  # an end that the ledger writes: see `_send_end`
        object.__setattr__(result, "status", status)
        if status == TaskResultStatus.SUCCESSFUL:
            object.__setattr__(result, "_return_value", value)
        else:
            result.errors.append(results.error_of(value, str(einfo.traceback)))

        def send() -> None:
            object.__setattr__(result, "finished_at", timezone.now())
            _send_finished(result, value if status == TaskResultStatus.FAILED else None)

        if running is None:
            send()
        else:
            running.after_finish(send)


def _send_finished(result: TaskResult[Any], error: BaseException | None) -> None:
    """Send ``task_finished``. Its receivers log the exception that is being handled."""
    sender = type(result.task.get_backend())
    if error is None:
        task_finished.send(sender, task_result=result)
        return
    try:
        raise error
    except type(error):
        task_finished.send(sender, task_result=result)


def _call(task: Task[..., Any], args: Any, kwargs: Any) -> Any:
    if iscoroutinefunction(task.func) and greenlets.is_patched():
        return greenlets.run(lambda: task.func(*args, **kwargs))
    return task.call(*args, **kwargs)


def _send_end(celery_id: str, name: str, error: BaseException | None = None) -> None:
    """Send the signal of an end that no body reached: lost, expired, cancelled, over its limit."""
    if name in tasks and (result := results.get(celery_id)) is not None and result.is_finished:
        _send_finished(result, error)


def _on_lost(celery_id: str, name: str, error: BaseException, **_: Any) -> None:
    _send_end(celery_id, name, error)


def _on_revoked(sender: Any, request: Any, **_: Any) -> None:
    _send_end(request.id, getattr(sender, "name", ""))


run_lost.connect(_on_lost, dispatch_uid="pressroom.django_tasks")
task_revoked.connect(_on_revoked, dispatch_uid="pressroom.django_tasks", weak=False)
