"""Count what happens to Celery's requests: accepted, succeeded, failed, retried, revoked."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pickle import PicklingError
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # not in the stubs
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery import states
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError, WorkerLostError
from celery.worker.request import Request

from pressroom.enqueue.envelope import HEADER
from pressroom.execution.outcome import CELERY_STATES, info_of
from pressroom.execution.slot_report import ExecutedRun, SlotReport
from pressroom.monitoring.counters import WorkerMetrics, exception_name
from pressroom.sql.backlog import FinishedRun
from pressroom.sql.runs import LOST, SettledRun

logger = logging.getLogger(__name__)
ENDS_WORKER = (SystemExit, KeyboardInterrupt)
"""The exceptions by which Celery ends a worker."""

NO_VERDICT = (WorkerLostError, SystemExit, KeyboardInterrupt)
"""The exceptions of a child that died without a verdict."""
VERDICTS = (Ignore, Reject, Retry, TimeLimitExceeded, Terminated)
"""The exceptions of a child that do not mean that its message could not be read."""
NOT_PICKLED = (RecursionError, PicklingError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)
"""The exceptions that a pool raises for a message that it cannot pass on."""


def _forget_job(pool: Any, task_id: str) -> None:
    """Remove a job that was never sent. A pool of processes would wait for it at its end."""
    jobs = getattr(getattr(pool, "_pool", None), "_cache", None)
    if isinstance(jobs, dict):
        for number, job in list(jobs.items()):
            if job.correlation_id == task_id and not job._accepted:
                del jobs[number]


def count_lost(run: SettledRun, queue: str | None) -> None:
    """Count the lost attempt of a run that a slot took without a message."""
    if (metrics := WorkerMetrics.current) is None:
        return
    labels = metrics.task(run.name, queue)
    for counter in (metrics.sent, metrics.received, metrics.started):
        counter.labels(*labels).inc()
    if run.status == "dead":
        metrics.count_failure(labels, LOST.error_type)
    else:
        (metrics.revoked if run.status == "cancelled" else metrics.lost).labels(*labels).inc()


# The stubs cover half of this class.
_Request: Any = Request


class CountedRequest(_Request):  # type: ignore[misc]  # see _Request
    """Counts one outcome per request, however often Celery reports it. A dead child's outcome is not visible here."""

    _request_dict: dict[str, Any]
    _is_counted = False
    is_over = False
    """Whether its end was reported, or its process is dead."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the methods of the classes that Celery makes per task, whose ``on_success`` calls no base class."""
        super().__init_subclass__(**kwargs)
        hand_over = cls.__dict__.get("execute_using_pool")
        if hand_over is not None:

            def execute_using_pool(self: Any, pool: Any, **options: Any) -> Any:
                try:
                    return hand_over(self, pool, **options)
                except NOT_PICKLED as error:
                    logger.exception("%s[%s] cannot be handed to the pool", self.name, self.id)
                    _forget_job(pool, self.id)
                    self._not_handed_over(error)
                    # This error makes Celery free the slot.
                    raise TaskRevokedError(self.id) from error

            cls.execute_using_pool = execute_using_pool
        quicker = cls.__dict__.get("on_success")
        if quicker is not None:

            def on_success(self: Any, outcome: Any, **options: Any) -> Any:
                if isinstance(outcome, ExceptionInfo):  # A thread or a greenlet died of this.
                    return self.on_failure(outcome)
                failed, value, runtime = outcome
                if runtime is None:  # Celery passes an ended greenlet off as a success.
                    self._count_ended()
                elif isinstance(value, SlotReport):
                    self._count_report(value, runtime)
                    # Celery's own code expects the text of the result.
                    outcome = (failed, value.text, runtime)
                elif not failed:
                    self._count_success(runtime)
                try:
                    return quicker(self, outcome, **options)
                finally:
                    self.is_over = True

            cls.on_success = on_success

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._count_once("received", is_outcome=False)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Count the start, when a slot has accepted the task."""
        super().on_accepted(pid, time_accepted)
        self._count_once("started", is_outcome=False)
        due = self._request_dict.get(HEADER, {}).get("due")
        if due is not None and (metrics := WorkerMetrics.current):
            metrics.wait.labels(*self._labels(metrics)).observe(max(0.0, time.time() - due))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Count what the task raised: an error, or a request such as Retry."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # The pool wraps a child's exceptions.
            error = error.exc
        if isinstance(error, Retry):
            self._count_once("retried")
        elif isinstance(error, Reject):
            self._count_once("rejected", is_outcome=False)
            if not error.requeue:  # type: ignore[attr-defined]  # not in the stubs
                self._count_failure("Reject")
        elif not isinstance(error, (*NO_VERDICT, TimeLimitExceeded, Ignore)):
            self._count_failure(exception_name(exc_info.exception))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _count_report(self, report: SlotReport, runtime: float) -> None:
        for run in report.others:
            self._count_other(run)
        if report.is_dropped:
            self._count_once("dropped")
        else:
            self._count_success(runtime)

    def _count_success(self, runtime: float) -> None:
        if self._count_once("succeeded") and (metrics := WorkerMetrics.current):
            metrics.runtime.labels(*self._labels(metrics)).observe(runtime)

    def _count_other(self, run: ExecutedRun) -> None:
        """Count a run that the slot took from the ledger, and send Celery's events of it."""
        if self._eventer and self._eventer.enabled:
            self._send_events(run)
        metrics = WorkerMetrics.current
        if metrics is None:
            return
        labels = self._labels(metrics, run.name)
        for counter in (metrics.sent, metrics.received, metrics.started):
            counter.labels(*labels).inc()
        if run.waited is not None:
            metrics.wait.labels(*labels).observe(max(0.0, run.waited))
        self._count_state(metrics, labels, run)

    def _count_state(self, metrics: WorkerMetrics, labels: tuple[str, str, str], run: ExecutedRun) -> None:
        if run.state == states.SUCCESS:
            metrics.succeeded.labels(*labels).inc()
            metrics.runtime.labels(*labels).observe(run.runtime)
        elif run.state == states.FAILURE:
            metrics.count_failure(labels, run.error_type)
        elif run.state == states.RETRY:
            metrics.retried.labels(*labels).inc()
        elif run.state == states.REJECTED:
            metrics.rejected.labels(*labels).inc()
            if run.error_type:  # The task did not hand it back, so it will not run again.
                metrics.count_failure(labels, run.error_type)
        elif run.state is None:
            metrics.dropped.labels(*labels).inc()

    def _send_events(self, run: ExecutedRun) -> None:
        """Send Celery's events of a run without a message."""
        ends: dict[str, tuple[str, dict[str, Any]]] = {
            states.SUCCESS: ("task-succeeded", {"result": "", "runtime": run.runtime}),
            states.FAILURE: ("task-failed", {"exception": f"{run.error_type}()", "traceback": ""}),
            states.RETRY: ("task-retried", {"exception": f"{run.error_type}()", "traceback": ""}),
            states.REJECTED: ("task-rejected", {"requeue": False}),
        }
        send = self._eventer.send
        call = {"name": run.name, "args": "", "kwargs": "", "retries": run.retries, "eta": None}
        send("task-sent", uuid=run.celery_id, queue=self.delivery_info.get("routing_key"), **call)
        send("task-received", uuid=run.celery_id, **call)
        send("task-started", uuid=run.celery_id)
        if run.state in ends:
            kind, fields = ends[run.state]
            send(kind, uuid=run.celery_id, **fields)

    def _not_handed_over(self, error: Exception) -> None:
        """Fail a message that the pool cannot pass on."""
        self.on_failure(info_of(error))

    def _count_ended(self) -> None:
        """Do nothing. `LedgerRequest` counts a run that was ended from outside as the ledger has it."""

    def _count_others(self, ended: Iterable[FinishedRun], lost: Iterable[SettledRun]) -> None:
        """Count the other runs of a slot whose child died before it reported them, as the ledger has them."""
        for one in ended:
            state = CELERY_STATES[one.status]
            self._count_other(
                ExecutedRun(one.celery_id, one.name, 0, one.waited, one.runtime or 0.0, state, one.error_type)
            )
        for run in lost:
            count_lost(run, self.delivery_info.get("routing_key"))

    def _count_failure(self, exception: str) -> None:
        if (metrics := WorkerMetrics.current) and not self._is_counted:
            self._is_counted = True
            metrics.count_failure(self._labels(metrics), exception)

    def _count_once(self, what: str, is_outcome: bool = True) -> bool:
        metrics = WorkerMetrics.current
        if metrics is None or (is_outcome and self._is_counted):
            return False
        self._is_counted |= is_outcome
        getattr(metrics, what).labels(*self._labels(metrics)).inc()
        return True

    def _count_status(self, status: str, error_type: str) -> None:
        """Count the outcome that the ledger has, by the run's status."""
        if status == "dead":
            self._count_failure(error_type)
        else:
            counter = {"succeeded": "succeeded", "retrying": "retried", "cancelled": "revoked", "queued": "lost"}
            if status in counter:
                self._count_once(counter[status])

    def _labels(self, metrics: WorkerMetrics, name: str | None = None) -> tuple[str, str, str]:
        """Return the labels of the task, or of the task ``name`` in the same queue."""
        # A message may give its task another name (``shadow``), which must not become a label.
        return metrics.task(name or self._task.name, self.delivery_info.get("routing_key"))
