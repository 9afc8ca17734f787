"""The inbox: claim → Celery's tracer → finish, around every run of a task in a worker."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.task import Context
from celery.app.trace import trace_ok_t
from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, close_old_connections, connection, transaction

from app.taskruns import ledger, terminal
from app.taskruns.databases import give_back
from app.taskruns.wake import waker

logger = logging.getLogger(__name__)
T = TypeVar("T")

DROPPED = "dropped: the run is done, running elsewhere, expired or not due"
LONGEST_PAUSE = 5.0
"""Seconds between two tries to reach Postgres."""

_current: ContextVar[Execution | None] = ContextVar("taskruns_execution", default=None)


class Execution:
    """A claimed run while its task executes in this thread."""

    def __init__(self, claim: ledger.Claim, celery_id: str, task: Any, request: dict[str, Any]) -> None:
        self.claim = claim
        self.request = request
        self.celery_id = celery_id
        self.task = task
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
        if self._body_ended and not connection.in_atomic_block:
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
            return body()
        finally:
            self.end_body()

    def finish(self, state: str, failure: ledger.Failure | None, requeue: bool = False) -> bool:
        """Write the outcome and the calls that belong to it, in one transaction. False: the claim was lost."""
        self._in_finish = True
        with transaction.atomic():
            if not self._write(state, failure, requeue):
                return False
            if self._calls:
                self._store_calls()
            for write in self._writes:
                write()
        if self._calls or self._next:
            waker.wake()
        for call in self._after:
            try:
                call()
            except Exception:
                # The run has ended, whatever becomes of what is done after it.
                logger.exception("%s[%s] its result could not be kept", self.task.name, self.claim.run_id)
        return True

    def _write(self, state: str, failure: ledger.Failure | None, requeue: bool) -> bool:
        if self._next is not None:
            return ledger.reschedule(self.claim, self._next, failure if state == states.RETRY else None)
        if requeue:
            return bool(terminal.lose_claim(self.claim.run_id, self.claim.token, failure or ledger.LOST))
        if failure is not None:
            return ledger.fail(self.claim, failure, self.result, self.children)
        if state == states.IGNORED:
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
    header = request["taskrun"]
    run_id, token = uuid.UUID(header["id"]), uuid.UUID(header["claim"])
    close_old_connections()
    try:
        claim = _until_written(lambda: ledger.claim(run_id, token, header["worker"]))
    finally:
        # Not held while the body runs, which may be slow and not need it.
        give_back()
    if claim is None:
        logger.info("%s[%s] %s", task.name, run_id, DROPPED)
        return trace_ok_t(None, None, 0.0, DROPPED)
    # What the message must not carry, the task may still ask for; a retry keeps its expiry by it.
    request["eta"] = header["eta"]
    request["expires"] = claim.expires_at.isoformat() if claim.expires_at else None
    running = Execution(claim, uuid_, task, request)
    reset = _current.set(running)
    try:
        return _run(running, lambda: tracer(uuid_, args, kwargs, request))
    finally:
        _current.reset(reset)
        give_back()


def _run(running: Execution, trace: Callable[[], trace_ok_t]) -> trace_ok_t:
    try:
        outcome = trace()
    except Reject as error:
        _finish(running, states.REJECTED, describe(error), requeue=bool(getattr(error, "requeue", False)))
        raise
    except Exception as error:
        _finish(running, states.FAILURE, describe(error))
        raise
    state, failure, requeue = _verdict(outcome)
    if state == states.REJECTED and not requeue and outcome.info is not None:
        # Celery leaves this to the worker's main process, which does not hold the claim.
        request = Context(running.request)
        running.task.backend.mark_as_failure(running.celery_id, outcome.info.retval, request=request)
    _finish(running, state, failure, requeue)
    return outcome


def _finish(running: Execution, state: str, failure: ledger.Failure | None, requeue: bool = False) -> None:
    claim = running.claim
    try:
        written = _until_written(lambda: running.finish(state, failure, requeue) or ledger.ended(claim))
    except Exception as error:
        # An outcome that Postgres refuses (say, a callback owned by a user just deleted) is a failure, not a hang.
        logger.exception("%s[%s] the outcome could not be written", running.task.name, claim.run_id)
        refusal = describe(error)
        written = _until_written(lambda: ledger.fail(claim, refusal, None) or ledger.ended(claim))
    if not written:
        logger.error(
            "%s[%s] attempt %s ended after it was given to another worker: nothing of its end was written",
            running.task.name, claim.run_id, claim.attempt,
        )  # fmt: skip


def _verdict(outcome: trace_ok_t) -> tuple[str, ledger.Failure | None, bool]:
    """Celery's state, the failure if it is one, and whether the run is to be had again."""
    einfo = outcome.retval if isinstance(outcome.retval, ExceptionInfo) else None
    if outcome.info is None:
        return (states.FAILURE, _from_einfo(einfo), False) if einfo is not None else (states.SUCCESS, None, False)
    state, error = outcome.info.state, outcome.info.retval
    if state == states.IGNORED:
        return state, None, False
    if isinstance(error, Retry):
        return state, describe(error.exc or error, einfo), False
    return state, describe(error, einfo), isinstance(error, Reject) and bool(getattr(error, "requeue", False))


def describe(error: BaseException | None, einfo: ExceptionInfo | None = None) -> ledger.Failure:
    """An exception as the ledger keeps it."""
    return ledger.Failure(
        type(error).__name__, _storable(error), str(einfo.traceback).replace("\x00", "") if einfo is not None else ""
    )


def _from_einfo(einfo: ExceptionInfo) -> ledger.Failure:
    return ledger.Failure(
        getattr(einfo.type, "__name__", "Exception"),
        _storable(einfo.exception),
        str(einfo.traceback).replace("\x00", ""),
    )


def _storable(error: object) -> str:
    """Text that Postgres takes, whatever ``str()`` of an exception does."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - a broken __str__ must not cost the verdict
        text = f"<no text: {broken!r}>"
    return text.replace("\x00", "").encode(errors="replace").decode()


def _until_written(write: Callable[[], T]) -> T:
    """Repeat a fenced statement until Postgres has answered it. Each is safe to repeat."""
    pause = 0.1
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError, SoftTimeLimitExceeded) as error:
            logger.warning("Postgres gave no answer, trying again: %s", error)
        connection.close()
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
