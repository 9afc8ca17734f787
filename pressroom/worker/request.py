"""A worker's requests: messages with a claim token, and what is said of the children that died over them."""

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
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import settle
from pressroom.execution.outcome import info_of
from pressroom.process import kill_points
from pressroom.sql import backlog, runs
from pressroom.worker.request_metrics import ENDS_WORKER, NO_VERDICT, VERDICTS, CountedRequest

logger = logging.getLogger(__name__)

MOST_REVOKED = 100
"""Ids that a slot is told to leave; with more of them it takes nothing by itself."""


def outlived(callback: Callable[..., None]) -> Callable[..., None]:
    """What a pool calls in the main process: whatever a handler of somebody's raises in it, the worker goes on."""

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
    """A task of plain Celery's ran out of memory."""


class Identity:
    """Who this process is in the ledger."""

    worker_id: int | None = None
    """Set once the worker has registered."""
    cancelled: set[uuid.UUID] = set()
    """Claims whose process was killed because their run is to be cancelled."""
    giving_up = False
    """The grace period is over: what is killed now is released, not lost."""


identity = Identity()
_alive: weakref.WeakSet[LedgerRequest] = weakref.WeakSet()


def living_requests() -> dict[uuid.UUID, LedgerRequest]:
    """By their claims, those under which something may run here: the pool has them, and has not told of their end.

    Celery's own sets are emptied when the broker goes away, and not filled before it is back.
    """
    while True:
        try:
            return {request.claim.token: request for request in _alive if request.run and not request.is_over}
        except RuntimeError:  # the main thread has added one meanwhile
            continue


class LedgerRequest(CountedRequest):
    """Celery's request of a task; runs of the ledger carry the worker's id and a claim token to the child."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # There is nothing to acknowledge: see `LedgerAMQP.TaskConsumer`.
        self._on_ack = self._on_reject = noop
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
        """Of the message's run."""
        assert self.run is not None
        return runs.Claim.of(self.run)

    def _not_to_take(self) -> dict[str, Any]:
        """What must come as messages: tasks that have a rate limit (None: all of them), and ids that are revoked.

        Only this process knows: somebody at a command line may have said so just now.
        """
        state.revoked.purge()  # it does not forget by itself
        if state.revoked_stamps or len(state.revoked) > MOST_REVOKED:
            return {"limited": None, "revoked": []}
        limited = [name for name, task in self._app.tasks.items() if task.rate_limit]
        return {"limited": limited, "revoked": list(state.revoked)}

    @outlived
    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A hard limit is a verdict: the run is a dead letter."""
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
        """End what ran at a hard limit. Whether that was not the message's own run, but one taken after it.

        A pool of processes tells of it twice.
        """
        assert self.run is not None
        worker_id, own = self.run["worker"], self.claim.run_id

        def overrun(claim: runs.Claim) -> list[runs.SettledRun]:
            self._overran = settle.end_overrun(worker_id, claim.token, timeout)
            return self._overran

        if not self._overran:
            self._tell(overrun)
            for run in self._overran:
                if run.run_id != own:
                    state.task_ready(self)
                    self.is_over = True
                    self._tell_task(run, TimeLimitExceeded(timeout))
        return any(run.run_id != own for run in self._overran)

    def _tell_task(self, run: runs.SettledRun, error: TimeLimitExceeded) -> None:
        """As Celery tells the task of a message."""
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
        """A child that died gave no verdict: its run, and only its, has lost an attempt and is due again."""
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
                # Celery would end the worker's main process, which is well.
                error = TaskMemoryError(str(error))
                exc_info = info_of(error)
            if self.run is not None and not return_ok and not isinstance(error, VERDICTS):
                self._fail_unclaimed(error)
            super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        finally:
            self.is_over = True
            # A greenlet or thread may end here, and Celery has asked for its result.
            give_back()

    def _on_lost(self, exc_info: Any, why: BaseException) -> None:
        """What Celery and its listeners are told is what became of the run: most often, nothing yet."""
        error = why if isinstance(why, WorkerLostError) else WorkerLostError(str(why))
        state.task_ready(self)
        lost = runs.Failure("WorkerLostError", str(error), "")

        def write(claim: runs.Claim) -> int:
            if claim.token in identity.cancelled:
                return settle.revoke_claimed(claim.run_id, claim.token)
            assert self.run is not None
            return settle.record_lost_attempt(claim.run_id, claim.token, lost) or settle.count_missed_dispatch(
                [claim.run_id], f"The worker died before it began this task: {error}", self.run.get("attempt")
            )

        self._tell(write, partial(self._announce_lost, exc_info, error))

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
        """The message could be taken, but not be begun. Where the run was claimed, that wrote its end."""
        assert self.run is not None
        attempt = self.run.get("attempt")
        self._tell(lambda claim: settle.fail_unclaimed(claim.run_id, error, attempt))

    def _not_handed_over(self, error: Exception) -> None:
        """The pool cannot take it."""
        state.task_ready(self)
        if self.run is not None:
            self._fail_unclaimed(error)
        self.is_over = True

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """A `control revoke` from the command line, which knows of no ledger, is one here, too."""
        if self.run is None:
            self._count_once("revoked")
            super()._announce_revoked(reason, terminated, signum, expired)
            return
        state.task_ready(self)
        self.send_event("task-revoked", terminated=terminated, signum=signum, expired=expired)
        self._already_revoked = True
        if terminated:
            self._tell(lambda claim: settle.revoke_claimed(claim.run_id, claim.token))
        else:
            self._tell(lambda claim: settle.revoke_waiting(claim.run_id))

    def _count_ended(self) -> None:
        if self.run is not None:
            self._tell(lambda claim: None)

    def _tell(
        self, write: Callable[[runs.Claim], object], announce: Callable[[str], object] = lambda status: None
    ) -> None:
        """Write how it ended, count that and announce the run's status then."""
        assert self.run is not None
        run, claim = self.run, self.claim

        def write_and_count() -> None:
            written = write(claim)
            # What was claimed after it. Where there is anything, the message's own run had ended.
            lost = settle.record_lost_bundle(run["worker"], claim.token)
            others = backlog.ended_under(claim.token, claim.run_id, time.monotonic() - self._since)
            transaction.on_commit(lambda: self._count_others(others, lost))
            # The child may have ended it before it died, or not begun it: then no attempt is lost.
            status, error_type = runs.standing(claim)
            if status == "queued" and not written:
                return
            transaction.on_commit(lambda: self._count_status(status, error_type))
            transaction.on_commit(lambda: announce(status), robust=True)

        write_now_or_later(write_and_count)
