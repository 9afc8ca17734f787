"""A worker's requests. They give each message a claim token, and record the loss when a child dies over it."""

from __future__ import annotations

import json
import logging
import time
import uuid
import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded
from celery import signals, states
from celery.exceptions import WorkerLostError
from celery.utils.functional import noop
from celery.utils.saferepr import saferepr
from celery.worker import state
from django.db import transaction

from pressroom.database.connections import give_back
from pressroom.database.deferred_writes import write_now_or_later
from pressroom.enqueue import arguments
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import settle
from pressroom.execution.outcome import info_of
from pressroom.process import kill_points
from pressroom.sql import backlog, runs
from pressroom.worker.request_metrics import ENDS_WORKER, NO_VERDICT, VERDICTS, CountedRequest

logger = logging.getLogger(__name__)

MOST_REVOKED = 100
"""Revoked ids that a message lists for its slot. With more of them the slot takes no run from the ledger."""


def outlived(callback: Callable[..., None]) -> Callable[..., None]:
    """Log the errors of a callback of the pool, so that a signal handler that raises does not end the worker."""

    @wraps(callback)
    def outliving(self: Any, *args: Any, **options: Any) -> None:
        try:
            callback(self, *args, **options)
        except ENDS_WORKER:
            raise
        except BaseException:
            logger.exception("%s[%s] %s", self.name, self.id, callback.__name__)

    return outliving


class TaskMemoryError(Exception):
    """A task of plain Celery ran out of memory."""


class Identity:
    """The identity of this process in the ledger."""

    worker_id: int | None = None
    """Set once the worker has registered."""
    cancelled: set[uuid.UUID] = set()
    """Claims whose process this worker killed to cancel the run."""
    giving_up = False
    """Whether the grace period is over. What is killed then is released and does not count as a loss."""


identity = Identity()
_alive: weakref.WeakSet[LedgerRequest] = weakref.WeakSet()


def living_requests() -> dict[uuid.UUID, LedgerRequest]:
    """Return the requests under whose claims something may run here, by their claim tokens.

    Celery's own sets of requests do not serve: they are empty while the broker is away.
    """
    while True:
        try:
            return {request.claim.token: request for request in _alive if request.run and not request.is_over}
        except RuntimeError:  # The main thread has added a request in the meantime.
            continue


class LedgerRequest(CountedRequest):
    """Celery's request of a task. For a run of the ledger it carries the worker's id and a claim token to the child."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Messages are not acknowledged: see `LedgerAMQP.TaskConsumer`.
        self._on_ack = self._on_reject = noop
        # The pool's loop, which ends whatever overruns, would stop at any other value.
        arguments.check_time_limits(self.name, self.time_limits)
        kill_points.reach("worker.received")
        header = self._request_dict.get(HEADER)
        if header is not None:
            header = {**header, "claim": str(uuid.uuid4()), "worker": identity.worker_id, **self._not_to_take()}
            header["hard_limit"] = self.time_limits[0] or self._task.time_limit
            self._request_dict[HEADER] = header
        self.run: dict[str, Any] | None = header
        self._since = time.monotonic()
        self._overran: list[runs.SettledRun] = []
        _alive.add(self)

    @property
    def claim(self) -> runs.Claim:
        """The claim of the message's own run."""
        assert self.run is not None
        return runs.Claim.of(self.run)

    def _not_to_take(self) -> dict[str, Any]:
        """Return what a slot must not take from the ledger: tasks with a rate limit (None: any task) and revoked ids.

        Only this process knows them, because `celery control` may set both at any time.
        """
        state.revoked.purge()  # Without this, expired ids stay in it.
        if state.revoked_stamps or len(state.revoked) > MOST_REVOKED:
            return {"limited": None, "revoked": []}
        limited = [name for name, task in self._app.tasks.items() if task.rate_limit]
        return {"limited": limited, "revoked": list(state.revoked)}

    @outlived
    def on_timeout(self, soft: bool, timeout: float) -> None:
        """End the run at its hard limit: it becomes a dead letter."""
        if not soft and self.run is None:
            self._count_failure("TimeLimitExceeded")
        elif not soft and self._is_of_another(timeout):
            return
        try:
            super().on_timeout(soft, timeout)
        finally:
            self.is_over |= not soft
            give_back()

    def _is_of_another(self, timeout: float) -> bool:
        """End the run that overran its hard limit. Returns whether the slot took that run after the message's own.

        A pool of processes reports each hard limit twice.
        """
        assert self.run is not None
        worker_id, own = self.run["worker"], self.claim.run_id

        def overrun(claim: runs.Claim) -> list[runs.SettledRun]:
            self._overran = settle.end_overrun(worker_id, claim.token, timeout)
            return self._overran

        if not self._overran:
            self._write_end(overrun)
            for run in self._overran:
                if run.run_id != own:
                    state.task_ready(self)
                    self.is_over = True
                    self._announce_overrun(run, TimeLimitExceeded(timeout))
        return any(run.run_id != own for run in self._overran)

    def _announce_overrun(self, run: runs.SettledRun, error: TimeLimitExceeded) -> None:
        """Call the task's hooks and signal, as Celery does for the task of a message."""
        logger.error("%s[%s] did not end within its hard limit: %s", run.name, run.run_id, error)
        task = self._app.tasks[run.name]
        args, kwargs, _ = json.loads(run.body)
        try:
            raise error
        except TimeLimitExceeded:
            einfo = ExceptionInfo()
        task.on_failure(error, run.celery_id, args, kwargs, einfo)
        task.after_return(states.FAILURE, error, run.celery_id, args, kwargs, None)
        signals.task_failure.send(
            sender=task, task_id=run.celery_id, exception=error, args=args, kwargs=kwargs,
            traceback=error.__traceback__, einfo=einfo,
        )  # fmt: skip

    @outlived
    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Write the failure of a message. If its child died, records the loss of the runs that the child executed."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if identity.giving_up:
            return
        if self.run is not None and isinstance(error, TimeLimitExceeded) and self._is_of_another(error.args[0]):
            return
        if self.run is None and isinstance(error, NO_VERDICT):
            self._count_failure("WorkerLostError")
        try:
            if self.run is not None and isinstance(error, NO_VERDICT):
                self._on_lost(exc_info, error)
                return
            if isinstance(error, MemoryError):
                # Celery would end the worker's main process, which has enough memory.
                error = TaskMemoryError(str(error))
                exc_info = info_of(error)
            if self.run is not None and not return_ok and not isinstance(error, VERDICTS):
                self._fail_unclaimed(error)
            super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        finally:
            self.is_over = True
            # In pools of greenlets or threads this is the task's own thread, which may end here.
            give_back()

    def _on_lost(self, exc_info: Any, why: BaseException) -> None:
        """Record the loss. Celery's signals and events follow the run's new status, which is most often not final."""
        error = why if isinstance(why, WorkerLostError) else WorkerLostError(str(why))
        state.task_ready(self)
        lost = runs.Failure("WorkerLostError", str(error), "")

        def write(claim: runs.Claim) -> int:
            if claim.token in identity.cancelled:
                return settle.revoke_claimed(claim.run_id, claim.token)
            assert self.run is not None
            if written := settle.record_lost_attempt(claim.run_id, claim.token, lost):
                return written
            why = f"The worker died before it began this task: {error}"
            settle.count_missed_dispatch([claim.run_id], why, self.run.get("attempt"))
            return 0

        self._write_end(write, partial(self._announce_lost, exc_info, error))

    def _announce_lost(self, exc_info: Any, error: Exception, status: str) -> None:
        if status == "succeeded":
            self.send_event("task-succeeded", result=None, runtime=None)
        elif status == "cancelled":
            self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        elif status == "dead":
            signals.task_failure.send(
                sender=self._task, task_id=self.id, exception=error, args=self.args, kwargs=self.kwargs,
                traceback=exc_info.traceback, einfo=exc_info,
            )  # fmt: skip
            self.send_event("task-failed", exception=saferepr(error), traceback=exc_info.traceback)

    def _fail_unclaimed(self, error: Exception) -> None:
        """Make a run whose message failed before the claim a dead letter. Does nothing if the run was claimed."""
        assert self.run is not None
        attempt = self.run.get("attempt")
        self._write_end(lambda claim: settle.fail_unclaimed(claim.run_id, error, attempt))

    def _not_handed_over(self, error: Exception) -> None:
        """Write the failure of a message that the pool cannot pass on."""
        state.task_ready(self)
        if self.run is not None:
            self._fail_unclaimed(error)
        self.is_over = True

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Cancel the run in the ledger, also for a `control revoke` from the command line."""
        if self.run is None:
            self._count_once("revoked")
            super()._announce_revoked(reason, terminated, signum, expired)
            return
        state.task_ready(self)
        self.send_event("task-revoked", terminated=terminated, signum=signum, expired=expired)
        self._already_revoked = True
        if terminated:
            self._write_end(lambda claim: settle.revoke_claimed(claim.run_id, claim.token))
        else:
            self._write_end(lambda claim: settle.revoke_waiting(claim.run_id))

    def _count_ended(self) -> None:
        if self.run is not None:
            self._write_end(lambda claim: None)

    def _write_end(
        self, write: Callable[[runs.Claim], object], announce: Callable[[str], object] = lambda status: None
    ) -> None:
        """Write the end of the message's own run, count it, and call ``announce`` with the run's new status.

        Tries again later if Postgres does not answer.
        """
        assert self.run is not None
        run, claim = self.run, self.claim

        def write_and_count() -> None:
            written = write(claim)
            # The slot claims other runs only after the message's own run has ended.
            lost = settle.record_lost_bundle(run["worker"], claim.token)
            queue = self.delivery_info["routing_key"]
            others = backlog.ended_under(claim.token, claim.run_id, queue, time.monotonic() - self._since)
            transaction.on_commit(lambda: self._count_others(others, lost))
            # If the child had already ended the run, or not begun it, no attempt is lost.
            status, error_type = runs.standing(claim)
            if status == "queued" and not written:
                return
            transaction.on_commit(lambda: self._count_status(status, error_type))
            transaction.on_commit(lambda: announce(status), robust=True)

        write_now_or_later(write_and_count)
