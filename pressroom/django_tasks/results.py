"""A run of the ledger as the result that Django's Tasks framework shows."""

from __future__ import annotations

import builtins
import json
from datetime import datetime
from typing import Any

import celery.exceptions
from kombu.utils.json import loads

from pressroom.django_tasks.exceptions import ORIGINALS
from pressroom.django_tasks.framework import InvalidTask, Task, TaskError, TaskResult, TaskResultStatus
from pressroom.django_tasks.registered import find
from pressroom.text import is_carried

HEADER = "django_task"
"""The message header of a call by ``enqueue()``: what its result shows and the row does not have."""


def header_of(result: TaskResult[Any]) -> dict[str, str | None]:
    """Return the header of a call that is about to be stored."""
    run_after = result.task.run_after
    assert result.enqueued_at is not None
    return {
        "backend": result.backend,
        "enqueued_at": result.enqueued_at.isoformat(),
        "run_after": run_after.isoformat() if run_after is not None else None,
    }


def called(task: Task[..., Any], header: dict[str, Any] | None, queue: str, priority: int) -> Task[..., Any]:
    """Return the task as its caller changed it by ``using()``. ``priority`` is the ledger's."""
    run_after = header and header["run_after"]
    try:
        return task.using(
            priority=-priority,
            queue_name=queue,
            run_after=datetime.fromisoformat(run_after) if run_after else None,
            backend=header["backend"] if header else None,
        )
    except InvalidTask:
        # Celery called it with a priority that the framework does not have, or the settings have changed since.
        return task


def get(celery_id: str) -> TaskResult[Any] | None:
    """Return the result of the newest run with a Celery id, or None if there is no such run of a ``@task``."""
    from pressroom.models import EndedRun, LiveRun, TaskCall

    if not isinstance(celery_id, str) or not is_carried(celery_id):
        return None
    run: LiveRun | EndedRun | None = LiveRun.objects.filter(celery_id=celery_id).first()
    if run is None:
        run = EndedRun.objects.filter(celery_id=celery_id).order_by("-id").first()
    task = find(run.name) if run is not None else None
    if run is None or task is None:
        return None
    try:
        return _result_of(run, task)
    except TaskCall.DoesNotExist:  # dropped with its day, a moment ago
        return None


def _result_of(run: Any, task: Task[..., Any]) -> TaskResult[Any]:
    from pressroom.models import Status

    statuses = {
        Status.QUEUED: TaskResultStatus.READY,
        Status.RETRYING: TaskResultStatus.READY,
        Status.RUNNING: TaskResultStatus.RUNNING,
        Status.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    }
    header = json.loads(run.headers).get(HEADER)
    task = called(task, header, run.queue, run.priority)
    args, kwargs = run.arguments
    attempts, workers = _attempts(run)
    began = [attempt.started_at for attempt in attempts] + [run.started_at]
    result: TaskResult[Any] = TaskResult(
        task=task,
        id=run.celery_id,
        status=statuses.get(run.status, TaskResultStatus.FAILED),
        enqueued_at=datetime.fromisoformat(header["enqueued_at"]) if header else run.created_at,
        started_at=next((time for time in began if time is not None), None),
        finished_at=run.finished_at,
        last_attempted_at=run.started_at,
        args=args,
        kwargs=kwargs,
        backend=task.backend,
        errors=[_error(attempt.error_type, attempt.error, attempt.traceback) for attempt in attempts],
        worker_ids=workers,
    )
    if result.status == TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", loads(run.result) if run.result is not None else None)
    elif result.status == TaskResultStatus.FAILED:
        error = _last_error(run)
        if attempts and attempts[-1].number == run.attempt:
            result.errors[-1] = error
        else:
            result.errors.append(error)
    return result


def _attempts(run: Any) -> tuple[list[Any], list[str]]:
    """Return the recorded attempts, none of which succeeded, and the names of the workers of all attempts."""
    from pressroom.models import TaskAttempt, Worker

    if not run.attempt:
        return [], []
    attempts = list(TaskAttempt.objects.filter(run_id=run.pk).order_by("number"))
    names = [attempt.worker_name for attempt in attempts]
    if len(names) < run.attempt:
        # The one that runs or succeeded. The worker's row may be gone: a run may be kept for longer.
        name = Worker.objects.filter(pk=run.worker_id or 0).values_list("name", flat=True).first()
        names.append(name or f"worker {run.worker_id}")
    return attempts, names


def error_of(error: BaseException, traceback: str) -> TaskError:
    """Return an exception as a result shows it."""
    kind = type(error)
    path = f"{kind.__module__}.{kind.__qualname__}"
    return TaskError(exception_class_path=ORIGINALS.get(path, path), traceback=traceback)


def _last_error(run: Any) -> TaskError:
    """Return why a run failed. The result of one that raised has the exception's module."""
    from pressroom.models import Status

    if run.status in (Status.CANCELLED, Status.EXPIRED):
        return TaskError(
            exception_class_path="celery.exceptions.TaskRevokedError", traceback=f"TaskRevokedError: {run.status}\n"
        )
    encoded = loads(run.result) if run.result is not None else None
    if not isinstance(encoded, dict) or not encoded.get("exc_module"):
        return _error(run.error_type, run.error, run.traceback)
    path = f"{encoded['exc_module']}.{encoded['exc_type']}"
    return TaskError(
        exception_class_path=ORIGINALS.get(path, path), traceback=_traceback(run.error_type, run.error, run.traceback)
    )


def _error(kind: str, text: str, traceback: str) -> TaskError:
    """Return an error of which the ledger knows the name of the class only."""
    module = next((module for module in (celery.exceptions, builtins) if hasattr(module, kind)), None)
    path = f"{module.__name__}.{kind}" if module is not None else "builtins.Exception"
    return TaskError(exception_class_path=path, traceback=_traceback(kind, text, traceback))


def _traceback(kind: str, text: str, traceback: str) -> str:
    return traceback or f"{kind}: {text}\n"
