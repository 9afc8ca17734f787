"""Celery's result backend on the ledger: a result is what its run says, so it never precedes the commit."""

from __future__ import annotations

import json
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError, WorkerLostError

from app.taskruns import execution
from app.taskruns.models import Status, TaskRun

CELERY_STATES = {
    Status.QUEUED: states.PENDING,
    Status.RUNNING: states.STARTED,
    Status.RETRYING: states.RETRY,
    Status.SUCCEEDED: states.SUCCESS,
    Status.DEAD: states.FAILURE,
    Status.CANCELLED: states.REVOKED,
    Status.EXPIRED: states.REVOKED,
}


class LedgerBackend(BaseBackend):
    """Reads runs by their Celery id; what a task returns is written by its finish."""

    persistent = True
    supports_native_join = False

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        running = execution.current()
        if running is not None and running.celery_id == task_id and state in (states.SUCCESS, states.FAILURE):
            running.result = str(self.encode(result))
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        run = TaskRun.objects.filter(celery_id=task_id).order_by("-id").first()
        if run is None:
            return {"task_id": task_id, "status": states.PENDING, "result": None, "traceback": None, "children": []}
        state = CELERY_STATES[Status(run.status)]
        meta: dict[str, Any] = {"task_id": task_id, "status": state, "traceback": run.traceback or None, "children": []}
        return meta | {"result": self._result_of(run, state), "date_done": run.finished_at}

    def _result_of(self, run: TaskRun, state: str) -> Any:
        if state == states.REVOKED:
            return self.exception_to_python(self.prepare_exception(TaskRevokedError(run.status), "json"))
        if state in states.EXCEPTION_STATES:
            if run.result is not None:
                return self.exception_to_python(json.loads(run.result))
            kind = WorkerLostError if run.error_type == "WorkerLostError" else Exception
            return kind(run.error)
        return None if run.result is None else self.decode(run.result)  # type: ignore[arg-type]  # text is as good

    def _forget(self, task_id: str) -> None:
        TaskRun.objects.filter(celery_id=task_id, finished_at__isnull=False).update(result=None)
