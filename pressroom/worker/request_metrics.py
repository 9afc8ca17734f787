"""Celery's request of a task, counted by what it is told of it: accepted, succeeded, failed, to be retried, revoked."""

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
from pressroom.execution.attempt import DROPPED
from pressroom.execution.backlog import ExecutedRun
from pressroom.execution.outcome import CELERY_STATES, info_of
from pressroom.monitoring.counters import WorkerMetrics, exception_name
from pressroom.sql.backlog import FinishedRun
from pressroom.sql.runs import LOST, SettledRun

logger = logging.getLogger(__name__)
ENDS_WORKER = (SystemExit, KeyboardInterrupt)
"""What Celery ends a worker by."""

NO_VERDICT = (WorkerLostError, SystemExit, KeyboardInterrupt)
"""What a child dies of."""
VERDICTS = (Ignore, Reject, Retry, TimeLimitExceeded, Terminated)
"""What a child raises that is no error of its message."""
NOT_PICKLED = (RecursionError, PicklingError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)
"""What a pool raises for a message that it cannot pass on."""


def _forget_job(pool: Any, task_id: str) -> None:
    """A pool of processes would wait, when it ends, for a job that it never sent."""
    jobs = getattr(getattr(pool, "_pool", None), "_cache", None)
    if isinstance(jobs, dict):
        for number, job in list(jobs.items()):
            if job.correlation_id == task_id and not job._accepted:
                del jobs[number]


def count_lost(run: SettledRun, queue: str | None) -> None:
    """A run taken without a message whose attempt was lost."""
    if (metrics := WorkerMetrics.current) is None:
        return
    labels = metrics.task(run.name, queue)
    for counter in (metrics.sent, metrics.received, metrics.started):
        counter.labels(*labels).inc()
    if run.status == "dead":
        metrics.count_failure(labels, LOST.error_type)
    else:
        (metrics.revoked if run.status == "cancelled" else metrics.lost).labels(*labels).inc()


# The stubs know half of this class.
_Request: Any = Request


class CountedRequest(_Request):  # type: ignore[misc]  # see _Request
    """One outcome is counted, however often Celery tells of it. What a died child did is not known here."""

    _request_dict: dict[str, Any]
    _is_counted = False
    is_over = False
    """How it ended is told, or its process is dead."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes of each task's request a quicker class, whose ``on_success`` asks no base class."""
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
                    # At which Celery frees the slot.
                    raise TaskRevokedError(self.id) from error

            cls.execute_using_pool = execute_using_pool
        quicker = cls.__dict__.get("on_success")
        if quicker is not None:

            def on_success(self: Any, outcome: Any, **options: Any) -> Any:
                if isinstance(outcome, ExceptionInfo):  # what a thread or a greenlet died of
                    return self.on_failure(outcome)
                if outcome[2] is None:  # a greenlet that was ended, as if that were a success
                    self._count_ended()
                else:
                    self._count_success(*outcome)
                try:
                    return quicker(self, outcome, **options)
                finally:
                    self.is_over = True

            cls.on_success = on_success

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._count_once("received", is_outcome=False)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A slot has it."""
        super().on_accepted(pid, time_accepted)
        self._count_once("started", is_outcome=False)
        due = self._request_dict.get(HEADER, {}).get("due")
        if due is not None and (metrics := WorkerMetrics.current):
            metrics.wait.labels(*self._labels(metrics)).observe(max(0.0, time.time() - due))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The task raised something, or asks for something by raising it."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # as which a child's comes
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

    def _count_success(self, failed: bool, told: Any, runtime: float) -> None:
        if failed:
            return
        for ran in getattr(told, "also", ()):
            self._count_other(ran)
        if told == DROPPED:
            self._count_once("dropped")
        elif self._count_once("succeeded") and (metrics := WorkerMetrics.current):
            metrics.runtime.labels(*self._labels(metrics)).observe(runtime)

    def _count_other(self, ran: ExecutedRun) -> None:
        """A run that its slot took after it: no message came of it."""
        if self._eventer and self._eventer.enabled:
            self._tell_of(ran)
        metrics = WorkerMetrics.current
        if metrics is None:
            return
        labels = self._labels(metrics, ran.name)
        for counter in (metrics.sent, metrics.received, metrics.started):
            counter.labels(*labels).inc()
        if ran.waited is not None:
            metrics.wait.labels(*labels).observe(max(0.0, ran.waited))
        if ran.state == states.SUCCESS:
            metrics.succeeded.labels(*labels).inc()
            metrics.runtime.labels(*labels).observe(ran.runtime)
        elif ran.state == states.FAILURE:
            metrics.count_failure(labels, ran.error_type)
        elif ran.state in (states.RETRY, states.REJECTED, DROPPED):
            counter = {states.RETRY: metrics.retried, states.REJECTED: metrics.rejected}.get(ran.state, metrics.dropped)
            counter.labels(*labels).inc()
            if ran.state == states.REJECTED and ran.error_type:  # not handed back: it will not run again
                metrics.count_failure(labels, ran.error_type)

    def _tell_of(self, ran: ExecutedRun) -> None:
        """Celery's events of it, for who counts those."""
        ends: dict[str, tuple[str, dict[str, Any]]] = {
            states.SUCCESS: ("task-succeeded", {"result": "", "runtime": ran.runtime}),
            states.FAILURE: ("task-failed", {"exception": f"{ran.error_type}()", "traceback": ""}),
            states.RETRY: ("task-retried", {"exception": f"{ran.error_type}()", "traceback": ""}),
            states.REJECTED: ("task-rejected", {"requeue": False}),
        }
        send = self._eventer.send
        told = {"name": ran.name, "args": "", "kwargs": "", "retries": ran.retries, "eta": None}
        send("task-sent", uuid=ran.celery_id, queue=self.delivery_info.get("routing_key"), **told)
        send("task-received", uuid=ran.celery_id, **told)
        send("task-started", uuid=ran.celery_id)
        if ran.state in ends:
            kind, fields = ends[ran.state]
            send(kind, uuid=ran.celery_id, **fields)

    def _not_handed_over(self, error: Exception) -> None:
        """The pool cannot take it."""
        self.on_failure(info_of(error))

    def _count_ended(self) -> None:
        """What was ended from outside, and said nothing of itself."""

    def _count_others(self, ended: Iterable[FinishedRun], lost: Iterable[SettledRun]) -> None:
        """What the child that died would have told of, as the ledger has it."""
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
        """An outcome as the ledger has it."""
        if status == "dead":
            self._count_failure(error_type)
        else:
            counter = {"succeeded": "succeeded", "retrying": "retried", "cancelled": "revoked", "queued": "lost"}
            if status in counter:
                self._count_once(counter[status])

    def _labels(self, metrics: WorkerMetrics, name: str | None = None) -> tuple[str, str, str]:
        """Of the task itself, or of another in its queue."""
        # Not the name that a message may give itself (``shadow``).
        return metrics.task(name or self._task.name, self.delivery_info.get("routing_key"))
