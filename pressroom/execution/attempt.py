"""An attempt in a worker: claim the run, run Celery's tracer, write the outcome."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from celery import states
from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Reject
from django.db import connection, transaction
from greenlet import GreenletExit  # type: ignore[import-untyped]  # ships no types

from pressroom import tracing
from pressroom.context import executing
from pressroom.database.backoff import outcome_is_unknown, until_written
from pressroom.database.connections import give_back, prepare_connection, start_afresh
from pressroom.database.errors import is_passing
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import end_hooks, settle
from pressroom.execution.execution import Execution
from pressroom.execution.outcome import AttemptOutcome, describe, info_of, outcome_of
from pressroom.execution.slot_report import SlotReport
from pressroom.process import kill_points
from pressroom.sql import ends, runs
from pressroom.text import carried

logger = logging.getLogger(__name__)
T = TypeVar("T")

DROPPED = "dropped: the run is done, running elsewhere, expired or not due"


class ClaimLost(Exception):
    """Another worker has the run. The transaction of an atomic task is rolled back."""


class Undone(Exception):
    """The body of an atomic task succeeded, but the run failed after it. The transaction is rolled back."""


def execute(
    task: Any,
    tracer: Callable[..., trace_ok_t],
    uuid_: str,
    args: Any,
    kwargs: Any,
    request: dict[str, Any],
) -> trace_ok_t:
    """Claim the run that the message names, trace the task and write the outcome.

    Returns what Celery's tracer returned. If the run cannot be claimed, drops the message.
    """
    header = request[HEADER]
    run_id, token = uuid.UUID(header["id"]), uuid.UUID(header["claim"])
    prepare_connection()
    try:
        claim = until_written(lambda: runs.claim(run_id, token, header["worker"], header.get("attempt")))
        # The body may be slow and need no connection.
        give_back()
        if claim is None:
            logger.info("%s[%s] %s", task.name, run_id, DROPPED)
            return _dropped()
        # The message must not carry these, but the task may read them, and a retry takes its expiry from here.
        request["eta"] = header["eta"]
        header["waited"] = claim.waited
        request["expires"] = claim.expires_at.isoformat() if claim.expires_at else None
        running = Execution(claim, uuid_, task, request)
        attempt = perform(running, lambda: tracer(uuid_, args, kwargs, request))
        return _dropped() if running.is_lost else attempt.traced()
    except GreenletExit:
        # The greenlet was ended from outside, perhaps in the middle of a statement.
        start_afresh()
        until_written(lambda: settle.revoke_claimed(run_id, token, only_if_requested=True))
        raise
    finally:
        give_back()


def _dropped() -> trace_ok_t:
    """Return what the worker's main process receives for an attempt that counts for nothing."""
    return trace_ok_t(None, None, 0.0, SlotReport(DROPPED, is_dropped=True))  # type: ignore[arg-type]  # see SlotReport


class Attempt:
    """One call of Celery's tracer and its outcome."""

    def __init__(self, running: Execution, trace: Callable[[], trace_ok_t]) -> None:
        self.running = running
        self.outcome: AttemptOutcome | None = None
        self._trace = trace
        self._traced: trace_ok_t | None = None
        self._raised: Reject | None = None

    def run(self) -> AttemptOutcome:
        """Call the tracer. Keeps a Reject that it raises for `traced`."""
        try:
            self._traced = self._trace()
        except Reject as error:
            self._raised = error
            self.outcome = AttemptOutcome(states.REJECTED, describe(error), bool(getattr(error, "requeue", False)))
        except (SystemExit, KeyboardInterrupt, GreenletExit):
            raise
        except BaseException as error:  # Celery's tracer lets MemoryError, CancelledError and others through.
            if _is_limit_of_greenlets(error, self.running.request[HEADER].get("hard_limit")):
                raise
            self._fail(self.running.raised or error)
        else:
            self.outcome = outcome_of(self._traced)
            info, raised = self._traced.info, self.running.raised
            if self.outcome.state == states.FAILURE and raised is not None and info and info.retval is not raised:
                # Celery reports a second error, which a handler of the first one raised.
                self._fail(raised)
            elif self.outcome.state == states.REJECTED and not self.outcome.requeue and info is not None:
                # Celery marks this in the worker's main process, which does not hold the claim.
                self._mark_as_failure(info.retval)
        kill_points.reach("worker.ran")
        assert self.outcome is not None
        if tracing.active is not None:
            tracing.active.body_ended(self.running, self.outcome)
        return self.outcome

    def _fail(self, error: BaseException) -> None:
        """Fail the run with an error that Celery's tracer let through, and call what waits for the run."""
        einfo = info_of(error)
        logger.error("%s[%s] raised %s", self.running.task.name, self.running.claim.run_id, einfo.traceback)
        self.running.start_over()
        self.outcome = AttemptOutcome(states.FAILURE, describe(error, einfo))
        # The worker's main process would take some of these errors for its own, so it gets a RuntimeError.
        substitute = RuntimeError(f"{type(error).__name__}: {carried(error)}")
        self._traced = trace_ok_t(info_of(substitute), TraceInfo(states.FAILURE, substitute), 0.0, None)
        self._mark_as_failure(error)

    def _mark_as_failure(self, error: BaseException) -> None:
        request = Context(self.running.request)
        try:
            self.running.task.backend.mark_as_failure(self.running.celery_id, error, request=request)
        except Exception:
            logger.exception(
                "%s[%s] not all of its callbacks could be called", self.running.task.name, self.running.claim.run_id
            )

    def traced(self) -> trace_ok_t:
        """Return what the tracer returned. Raises the Reject that it raised."""
        if self._raised is not None:
            raise self._raised
        assert self._traced is not None
        return self._traced


def _is_limit_of_greenlets(error: BaseException, hard_limit: float | None) -> bool:
    """Return whether the gevent pool raised it at the hard limit. The worker's main process then ends the run.

    A ``gevent.Timeout`` of the body's own has other seconds and is an ordinary error.
    """
    return type(error).__module__ == "gevent.timeout" and getattr(error, "seconds", None) == hard_limit


def perform(
    running: Execution,
    trace: Callable[[], trace_ok_t],
    finish: Callable[[Execution, AttemptOutcome], None] | None = None,
) -> Attempt:
    """Execute a claimed run and write the outcome.

    An atomic task's outcome is written in the transaction of its body, any other by ``finish`` (default: `write_end`).
    """
    if tracing.active is not None:
        return tracing.active.attempt(running, lambda: _perform(running, trace, finish))
    return _perform(running, trace, finish)


def _perform(
    running: Execution,
    trace: Callable[[], trace_ok_t],
    finish: Callable[[Execution, AttemptOutcome], None] | None,
) -> Attempt:
    with executing(running):
        kill_points.reach("worker.claimed")
        attempt = Attempt(running, trace)
        if running.atomic:
            _in_one_transaction(attempt)
        else:
            outcome = attempt.run()
            running.guard.leave()
            (finish or write_end)(running, outcome)
        kill_points.reach("worker.finished")
        return attempt


def _in_one_transaction(attempt: Attempt) -> None:
    """Commit body and finish together. If the answer to the commit is lost, read from the ledger what happened."""
    running, claim = attempt.running, attempt.running.claim
    # Waiting for a free connection or for Postgres must not count as an attempt.
    until_written(connection.ensure_connection)
    try:
        with transaction.atomic():
            _run_and_finish(attempt)
    except ClaimLost:
        start_afresh()
        log_lost(running)
    except Exception as error:  # noqa: BLE001 - each becomes an outcome
        running.guard.drop()
        # The body may have left an atomic block of its own open.
        start_afresh()
        outcome = attempt.outcome
        was_cut = running.is_cut and outcome is not None and outcome.state == states.FAILURE
        if outcome is not None and outcome.failure is not None and not was_cut:
            # The rollback undid its work, but the failure still has to be written.
            write_end(running, outcome)
        elif was_cut or outcome_is_unknown(error) or is_passing(error):
            logger.warning("%s[%s] Postgres did not answer to the commit: %s", running.task.name, claim.run_id, error)
            undone = describe(error)

            def write() -> None:
                if runs.ended(claim):
                    running.committed()
                else:
                    settle.record_lost_attempt(claim.run_id, claim.token, undone)

            until_written(write)
        else:
            _refused(running, error)


def _run_and_finish(attempt: Attempt) -> None:
    running = attempt.running
    running.guard.enter()
    try:
        outcome = attempt.run()
    except BaseException:
        running.guard.drop()
        raise
    if outcome.state in (states.FAILURE, states.REJECTED) and running.raised is None:
        running.guard.drop()
        raise Undone
    running.guard.leave()
    if not running.finish(outcome):
        raise ClaimLost


def write_end(running: Execution, outcome: AttemptOutcome) -> None:
    """Write the outcome. Tries again until Postgres has it or another worker has the run."""

    def write() -> bool:
        if running.finish(outcome):
            return True
        if not runs.ended(running.claim):
            return False
        # The answer to the commit was lost.
        running.committed()
        return True

    try:
        written = until_written(write)
    except Exception as error:  # noqa: BLE001 - see `_refused`
        _refused(running, error)
    else:
        if not written:
            log_lost(running)


def _refused(running: Execution, error: Exception) -> None:
    """Fail a run whose outcome Postgres refuses, for example because a callback's owner has just been deleted."""
    logger.error("%s[%s] the outcome could not be written", running.task.name, running.claim.run_id, exc_info=error)
    try:
        written = until_written(lambda: settle.fail_claimed(running.claim, error) or runs.ended(running.claim))
    except Exception:
        logger.exception("%s[%s] its errbacks cannot be called either", running.task.name, running.claim.run_id)
        failure = describe(error)

        def fail() -> bool:
            with transaction.atomic():
                failed = ends.fail(running.claim, failure, None)
                if failed:
                    end_hooks.tell_row(runs.as_ended(running.claim.run_id), failure)
            return failed

        written = until_written(lambda: fail() or runs.ended(running.claim))
    if not written:
        log_lost(running)


def log_lost(running: Execution) -> None:
    """Mark an attempt whose run another worker has, or had, and log that."""
    running.is_lost = True
    logger.error(
        "%s[%s] attempt %s ended after another worker got the run: its outcome was not written",
        running.task.name, running.claim.run_id, running.claim.attempt,
    )  # fmt: skip
