"""The inbox: claim → Celery's tracer → finish, around every run of a task in a worker."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from celery import states
from celery.app.task import Context
from celery.app.trace import trace_ok_t
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, connection, transaction
from greenlet import GreenletExit  # type: ignore[import-untyped]  # brings none

from app.postgres import is_no_answer
from app.taskruns import faults, ledger, terminal
from app.taskruns.databases import give_back, prepare_connection
from app.taskruns.messages import HEADER
from app.taskruns.verdict import Verdict, describe, verdict_of
from app.taskruns.wake import waker

logger = logging.getLogger(__name__)
T = TypeVar("T")

DROPPED = "dropped: the run is done, running elsewhere, expired or not due"
LONGEST_PAUSE = 5.0
"""Seconds between two tries to reach Postgres."""

_current: ContextVar[Execution | None] = ContextVar("taskruns_execution", default=None)


class ClaimLost(Exception):
    """The run was given to another worker: what an atomic task did is undone."""


class Execution:
    """A claimed run while its task executes in this thread."""

    def __init__(self, claim: ledger.Claim, celery_id: str, task: Any, request: dict[str, Any]) -> None:
        self.claim = claim
        self.request = request
        self.celery_id = celery_id
        self.task = task
        self.atomic = bool(getattr(task, "atomic", False))
        self.is_lost = False
        """Another worker has the run, or had it: nothing of this attempt's end was written."""
        self.is_cut = False
        """The transaction of an atomic body was cut off from outside."""
        self.progress: tuple[int, int | None, str] | None = None
        """What an atomic task told of its progress; written with its finish, for its row shall not be locked before."""
        self.result: str | None = None
        self._body_begun = False
        self._body_ended = False
        self._in_finish = False
        self.children: str | None = None
        self._next: ledger.Message | None = None
        self._writes: list[Callable[[], object]] = []
        self._after: list[Callable[[], object]] = []
        self._calls: list[ledger.Message] = []

    def keep(self, message: ledger.Message) -> bool:
        """Hold back a call until the finish, where it belongs to it. False: it is to be stored now.

        A call with our own Celery id is the run's next form (``retry``, ``replace``). What is called after the
        body (callbacks, the chain's next step, hooks) is committed with the finish or not at all.
        """
        if message.celery_id == self.celery_id:
            self._next = message
            return True
        # An atomic task's own transaction is open all the time and no sign of a caller who wants it stored now.
        if self._body_ended and not self._in_finish and (self.atomic or not connection.in_atomic_block):
            self._calls.append(message)
            return True
        return False

    def with_finish(self, write: Callable[[], object]) -> None:
        """Do this in the transaction of the finish, after the run's own row was written."""
        self._writes.append(write)

    def after_finish(self, call: Callable[[], object]) -> None:
        """Do this once the finish is committed."""
        self._after.append(call)

    @property
    def finishing(self) -> bool:
        """Whether what is written now has to wait for the finish: not in the body, nor in the finish itself."""
        return (self._body_ended or not self._body_begun) and not self._in_finish

    def end_body(self) -> None:
        """What is called from now on belongs to the finish."""
        self._body_begun = self._body_ended = True

    def run_body(self, task: Any, body: Callable[[], Any]) -> Any:
        """Run ``body`` and note when the task's own body has ended; a task called by a task is no end."""
        if self._body_begun or task is not self.task:
            return body()
        self._body_begun = True
        try:
            return self._or_nothing(body) if self.atomic else body()
        finally:
            self.end_body()

    def _or_nothing(self, body: Callable[[], Any]) -> Any:
        """What a failed or retried body wrote is undone; what one wrote that replaced itself is kept."""
        try:
            with transaction.atomic():
                try:
                    return body()
                except Ignore as error:
                    replaced = error
        except (DatabaseError, InterfaceError) as error:
            self.is_cut = is_no_answer(error) or connection.connection is None or connection.connection.closed
            raise
        raise replaced

    @property
    def is_single(self) -> bool:
        """Whether nothing but the run's own row is to be written."""
        return not (self.progress or self._calls or self._writes)

    @property
    def is_plain(self) -> bool:
        """Whether its end as a success would be of that kind."""
        return self.is_single and self._next is None

    def finish(self, verdict: Verdict) -> bool:
        """Write the outcome and the calls that belong to it, in one transaction. False: the claim was lost."""
        self._in_finish = True
        # One statement is a transaction by itself, and an atomic task's is open.
        with nullcontext() if self.is_single or connection.in_atomic_block else transaction.atomic():
            if self.progress is not None:
                ledger.progress(self.claim, *self.progress)
            if not self._write(verdict):
                return bool(self._next or verdict.state == states.IGNORED) and self._is_stopped()
            if self._calls:
                self._store_calls()
            for write in self._writes:
                write()
            transaction.on_commit(self.committed)
        return True

    def _is_stopped(self) -> bool:
        """A run that was to be cancelled does not go on by a retry, nor as what replaced it."""
        return bool(terminal.cancel_claim(self.claim.run_id, self.claim.token, only_if_requested=True))

    def committed(self) -> None:
        """Do what waits for the commit of the finish."""
        if self._calls or self._next:
            waker.wake()
        for call in self._after:
            try:
                call()
            except Exception:
                # The run has ended, whatever becomes of what is done after it.
                logger.exception("%s[%s] its result could not be kept", self.task.name, self.claim.run_id)

    def _write(self, verdict: Verdict) -> bool:
        failure = verdict.failure
        if self._next is not None:
            return ledger.reschedule(self.claim, self._next, failure if verdict.state == states.RETRY else None)
        if verdict.requeue:
            return bool(terminal.lose_claim(self.claim.run_id, self.claim.token, failure or ledger.LOST))
        if failure is not None:
            return ledger.fail(self.claim, failure, self.result, self.children)
        if verdict.state == states.IGNORED:
            return ledger.ignore(self.claim)
        return ledger.succeed(self.claim, self.result, self.children)

    def _store_calls(self) -> None:
        try:
            ledger.insert(self._calls)
        except ledger.DuplicateTaskIdError:
            # The finish stands all the same: a duplicate id is its caller's mistake, and it runs already.
            logger.exception("%s[%s] called a task whose id is live", self.task.name, self.claim.run_id)


def current() -> Execution | None:
    """The run that this thread executes, or None outside of one."""
    return _current.get()


def current_run_id() -> uuid.UUID | None:
    """The run's key, the same in every attempt: an ``Idempotency-Key`` for the world outside. None outside a run."""
    running = _current.get()
    return running.claim.run_id if running is not None else None


def execute(
    task: Any,
    tracer: Callable[..., trace_ok_t],
    uuid_: str,
    args: Any,
    kwargs: Any,
    request: dict[str, Any],
) -> trace_ok_t:
    """Claim the run named in the message, trace the task, write how it ended. A run not to be had is dropped."""
    header = request[HEADER]
    run_id, token = uuid.UUID(header["id"]), uuid.UUID(header["claim"])
    prepare_connection()
    try:
        claim = until_written(lambda: ledger.claim(run_id, token, header["worker"], header.get("attempt")))
        # Not held while the body runs, which may be slow and not need it.
        give_back()
        if claim is None:
            logger.info("%s[%s] %s", task.name, run_id, DROPPED)
            return _dropped()
        # What the message must not carry, the task may still ask for; a retry keeps its expiry by it.
        request["eta"] = header["eta"]
        header["waited"] = claim.waited
        request["expires"] = claim.expires_at.isoformat() if claim.expires_at else None
        running = Execution(claim, uuid_, task, request)
        attempt = perform(running, lambda: tracer(uuid_, args, kwargs, request))
        return _dropped() if running.is_lost else attempt.outcome()
    except GreenletExit:
        # Ended from outside, perhaps in the middle of a statement.
        connection.close()
        until_written(lambda: terminal.cancel_claim(run_id, token, only_if_requested=True))
        raise
    finally:
        give_back()


def _dropped() -> trace_ok_t:
    """What a worker's main process is told of an attempt that counts for nothing."""
    return trace_ok_t(None, None, 0.0, DROPPED)


class Attempt:
    """One run of Celery's tracer, and what came of it."""

    def __init__(self, running: Execution, trace: Callable[[], trace_ok_t]) -> None:
        self.running = running
        self.verdict: Verdict | None = None
        self._trace = trace
        self._traced: trace_ok_t | None = None
        self._raised: Exception | None = None

    def run(self) -> Verdict:
        """Run it; what it raises is kept for `outcome`."""
        try:
            self._traced = self._trace()
        except Reject as error:
            self._raised = error
            self.verdict = Verdict(states.REJECTED, describe(error), bool(getattr(error, "requeue", False)))
        except Exception as error:  # noqa: BLE001 - raised again by `outcome`
            self._raised = error
            self.verdict = Verdict(states.FAILURE, describe(error))
        else:
            self.verdict = verdict_of(self._traced)
            info = self._traced.info
            if self.verdict.state == states.REJECTED and not self.verdict.requeue and info is not None:
                # Celery leaves this to the worker's main process, which does not hold the claim.
                request = Context(self.running.request)
                self.running.task.backend.mark_as_failure(self.running.celery_id, info.retval, request=request)
        faults.reach("worker.ran")
        return self.verdict

    def outcome(self) -> trace_ok_t:
        """What the tracer returned. Raises what it raised."""
        if self._raised is not None:
            raise self._raised
        assert self._traced is not None
        return self._traced


def perform(
    running: Execution,
    trace: Callable[[], trace_ok_t],
    finish: Callable[[Execution, Verdict], None] | None = None,
) -> Attempt:
    """Run what was claimed and write how it ended: an atomic task's end with what it did, any other's by ``finish``."""
    reset = _current.set(running)
    try:
        faults.reach("worker.claimed")
        attempt = Attempt(running, trace)
        if running.atomic:
            _in_one_transaction(attempt)
        else:
            (finish or write_end)(running, attempt.run())
        faults.reach("worker.finished")
        return attempt
    finally:
        _current.reset(reset)


def _in_one_transaction(attempt: Attempt) -> None:
    """Body and finish are committed together. Where that is not known to have happened, the ledger is asked."""
    running, claim = attempt.running, attempt.running.claim
    # To wait for a place in the pool, or for Postgres, is no attempt.
    until_written(connection.ensure_connection)
    try:
        with transaction.atomic():
            _run_and_finish(attempt)
    except ClaimLost:
        log_lost(running)
    except Exception as error:  # noqa: BLE001 - each becomes a verdict
        connection.close()
        verdict = attempt.verdict
        was_cut = running.is_cut and verdict is not None and verdict.state == states.FAILURE
        if verdict is not None and verdict.failure is not None and not was_cut:
            # What it did is undone; that it failed is true all the same.
            write_end(running, verdict)
        elif was_cut or _is_no_answer(error):
            logger.warning("%s[%s] no answer to its commit: %s", running.task.name, claim.run_id, error)
            undone = describe(error)
            until_written(lambda: ledger.ended(claim) or terminal.lose_claim(claim.run_id, claim.token, undone))
        else:
            _refused(running, error)


def _run_and_finish(attempt: Attempt) -> None:
    if not attempt.running.finish(attempt.run()):
        raise ClaimLost


def write_end(running: Execution, verdict: Verdict) -> None:
    """Until Postgres has it, or another has the run."""
    try:
        written = until_written(lambda: running.finish(verdict) or ledger.ended(running.claim))
    except Exception as error:  # noqa: BLE001 - see `_refused`
        _refused(running, error)
    else:
        if not written:
            log_lost(running)


def _refused(running: Execution, error: Exception) -> None:
    """An outcome that Postgres refuses (say, a callback owned by a user just deleted) is a failure, not a hang."""
    logger.error("%s[%s] the outcome could not be written", running.task.name, running.claim.run_id, exc_info=error)
    try:
        written = until_written(lambda: terminal.fail(running.claim, error) or ledger.ended(running.claim))
    except Exception:
        logger.exception("%s[%s] nor can its errbacks be called", running.task.name, running.claim.run_id)
        failure = describe(error)
        written = until_written(lambda: ledger.fail(running.claim, failure, None) or ledger.ended(running.claim))
    if not written:
        log_lost(running)


def log_lost(running: Execution) -> None:
    """Another worker has the run, or had it."""
    running.is_lost = True
    logger.error(
        "%s[%s] attempt %s ended after it was given to another worker: nothing of its end was written",
        running.task.name, running.claim.run_id, running.claim.attempt,
    )  # fmt: skip


def _is_no_answer(error: Exception) -> bool:
    """Whether the outcome of what raised it is not known: it is repeated, or asked for."""
    return isinstance(error, SoftTimeLimitExceeded) or is_no_answer(error)


def until_written(write: Callable[[], T]) -> T:
    """Repeat a fenced statement until Postgres has answered it. Each is safe to repeat."""
    pause = 0.0
    while True:
        # All of it within: a soft time limit may come at any moment, and most of them are spent waiting.
        try:
            if pause:
                connection.close()
                time.sleep(pause)
            return write()
        except Exception as error:
            if not _is_no_answer(error):
                raise
            logger.warning("Postgres gave no answer, trying again: %s", error)
        pause = min(max(pause * 2, 0.1), LONGEST_PAUSE)
