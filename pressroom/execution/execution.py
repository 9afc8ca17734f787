"""A claimed run while its task executes. Separates the writes of the body from those of the finish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

from celery import states
from celery.exceptions import Ignore, Reject, Retry
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.transaction import TransactionManagementError

from pressroom.database.connections import Guard, OpenBlocks, OpenTransactions
from pressroom.database.errors import is_no_answer
from pressroom.enqueue.wakeup import waker
from pressroom.execution import end_hooks, settle
from pressroom.execution.outcome import AttemptOutcome
from pressroom.sql import calls, ends, runs

logger = logging.getLogger(__name__)


class Execution:
    """A claimed run whose task executes in this thread."""

    def __init__(self, claim: runs.Claim, celery_id: str, task: Any, request: dict[str, Any]) -> None:
        self.claim = claim
        self.request = request
        self.celery_id = celery_id
        self.task = task
        self.atomic = bool(getattr(task, "atomic", False))
        self.is_lost = False
        """Whether another worker has, or had, the run. The outcome of this attempt was then not written."""
        self.is_cut = False
        """Whether the transaction of an atomic body was cut off from outside."""
        self.raised: BaseException | None = None
        """The error that the body raised."""
        self.progress: tuple[int, int | None, str] | None = None
        """Progress that an atomic task reported. Written at the finish, so that the body holds no lock on the row."""
        self.result: str | None = None
        self._body_begun = False
        self._body_ended = False
        self._in_finish = False
        self.children: str | None = None
        self._next: runs.Message | None = None
        self._writes: list[Callable[[], object]] = []
        self._after: list[Callable[[], object]] = []
        self._calls: list[runs.Message] = []
        self.guard: Guard | OpenTransactions = Guard() if self.atomic else OpenTransactions()
        """Protects the run's own transaction from what signal handlers and hooks do to the connection."""

    def keep(self, message: runs.Message) -> bool:
        """Hold back a call that belongs to the finish. Returns False if the caller has to store it now.

        A call with the run's own Celery id is the run's next form (``retry``, ``replace``). Calls made after the body
        (callbacks, the chain's next step, hooks) are committed with the finish or not at all.
        """
        if message.celery_id == self.celery_id:
            self._next = message
            return True
        # An open transaction means that its caller wants the call stored in it, except in an atomic task, which always
        # has one open.
        if self._body_ended and not self._in_finish and (self.atomic or not connection.in_atomic_block):
            self._calls.append(message)
            return True
        return False

    def holds(self, celery_ids: Collection[str]) -> bool:
        """Return whether a call of one of these tasks is held back until the finish."""
        return any(message.celery_id in celery_ids for message in self._calls)

    def with_finish(self, write: Callable[[], object]) -> None:
        """Call ``write`` in the transaction of the finish, after the run's own row was written."""
        self._writes.append(write)

    def after_finish(self, call: Callable[[], object]) -> None:
        """Call ``call`` once the finish is committed."""
        self._after.append(call)

    @property
    def finishing(self) -> bool:
        """Whether writes have to wait for the finish: outside of the body and of the finish itself."""
        return (self._body_ended or not self._body_begun) and not self._in_finish

    def end_body(self) -> None:
        """Make all later calls belong to the finish."""
        self._body_begun = self._body_ended = True

    def run_body(self, task: Any, body: Callable[[], Any]) -> Any:
        """Run ``body`` and note when the run's own body has ended. Ignores a task that the body calls directly."""
        if self._body_begun or task is not self.task:
            return body()
        self._body_begun = True
        try:
            if self.atomic:
                return self._in_savepoint(body)
            if connection.errors_occurred and not connection.in_atomic_block:
                # A handler may have broken the connection.
                connection.close_if_unusable_or_obsolete()
            return body()
        except (Ignore, Reject, Retry):
            raise
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.end_body()

    def _in_savepoint(self, body: Callable[[], Any]) -> Any:
        """Roll back what a failed or retried body wrote. Keep what a body wrote that replaced itself."""
        self.guard.leave()
        replaced = None
        try:
            with transaction.atomic():
                blocks = OpenBlocks()
                try:
                    returned = body()
                except Ignore as error:
                    replaced = error
                finally:
                    were_changed = blocks.restore()
                if were_changed:
                    raise TransactionManagementError("the task left an atomic block open, or ended one that it is in")
                if replaced is None:
                    return returned
        except (DatabaseError, InterfaceError) as error:
            was_cut = is_no_answer(error) or connection.connection is None or connection.connection.closed
            self.is_cut = was_cut and not connection.closed_in_transaction
            raise
        finally:
            self.guard.enter()
        raise replaced

    @property
    def is_single(self) -> bool:
        """Whether the finish writes nothing but the run's own row."""
        return not (self.progress or self._calls or self._writes or self.task.on_end)

    @property
    def is_plain(self) -> bool:
        """Whether a success would write nothing but the run's own row."""
        return self.is_single and self._next is None

    def finish(self, outcome: AttemptOutcome) -> bool:
        """Write the outcome and the calls that belong to it in one transaction. Returns False if the claim was lost."""
        self._in_finish = True
        # A single statement needs no transaction block, and an atomic task has one open.
        with nullcontext() if self.is_single or connection.in_atomic_block else transaction.atomic():
            if self.progress is not None:
                runs.progress(self.claim, *self.progress)
            if not self._write(outcome):
                return bool(self._next or outcome.state == states.IGNORED) and self._is_stopped()
            self._call_on_end(outcome)
            if self._calls:
                self._store_calls()
            for write in self._writes:
                write()
            transaction.on_commit(self.committed)
        return True

    def _is_stopped(self) -> bool:
        """Cancel a run with a cancel request instead of its retry or replacement. Returns whether it had one."""
        return bool(settle.revoke_claimed(self.claim.run_id, self.claim.token, only_if_requested=True))

    def start_over(self) -> None:
        """Forget what was to be written with the finish, because the attempt ends otherwise."""
        self.end_body()
        self._next, self.result, self.children = None, None, None
        self._calls.clear()
        self._writes.clear()
        self._after.clear()

    def committed(self) -> None:
        """Do what waits for the commit of the finish. Repeated calls have no effect."""
        if self._calls or self._next or self.claim.lane is not None:
            waker.wake()
        after, self._after = self._after, []
        for call in after:
            try:
                call()
            except Exception:
                # The run has ended, whether or not this succeeds.
                logger.exception("%s[%s] a step after its commit failed", self.task.name, self.claim.run_id)

    def _write(self, outcome: AttemptOutcome) -> bool:
        failure = outcome.failure
        if self._next is not None:
            return ends.reschedule(
                self.claim, self._next, failure if outcome.state == states.RETRY else None, self.result
            )
        if outcome.requeue:
            return bool(settle.record_lost_attempt(self.claim.run_id, self.claim.token, failure or runs.LOST))
        if failure is not None:
            return ends.fail(self.claim, failure, self.result, self.children)
        if outcome.state == states.IGNORED:
            return ends.ignore(self.claim)
        return ends.succeed(self.claim, self.result, self.children)

    def _call_on_end(self, outcome: AttemptOutcome) -> None:
        """Call the task's ``on_end``, unless the run goes on."""
        if self.task.on_end and self._next is None and not outcome.requeue and outcome.state != states.IGNORED:
            end = end_hooks.Outcome.FAILED if outcome.failure else end_hooks.Outcome.SUCCEEDED
            claim = self.claim
            end_hooks.tell_run(self.task.name, claim.run_id, self.celery_id, self.request, end, outcome.failure)

    def _store_calls(self) -> None:
        try:
            if plain := [call for call in self._calls if call.unique is None]:
                calls.insert(plain)
            for call in self._calls:
                if call.unique is not None:
                    calls.insert_unique(call, *call.unique)
        except runs.DuplicateTaskIdError:
            # Keep the finish: the duplicate id is its caller's mistake, and a run with that id is live.
            logger.exception("%s[%s] called a task with the id of a live run", self.task.name, self.claim.run_id)
