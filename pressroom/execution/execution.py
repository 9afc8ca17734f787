"""A claimed run while its task executes: what belongs to its body, and what to its finish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

from celery import states
from celery.exceptions import Ignore, Reject, Retry
from django.db import DatabaseError, InterfaceError, connection, transaction

from pressroom.database.connections import Guard, OpenTransactions
from pressroom.database.errors import is_no_answer
from pressroom.enqueue.wakeup import waker
from pressroom.execution import end_hooks, settle
from pressroom.execution.outcome import AttemptOutcome
from pressroom.sql import ends, runs

logger = logging.getLogger(__name__)


class Execution:
    """A claimed run while its task executes in this thread."""

    def __init__(self, claim: runs.Claim, celery_id: str, task: Any, request: dict[str, Any]) -> None:
        self.claim = claim
        self.request = request
        self.celery_id = celery_id
        self.task = task
        self.atomic = bool(getattr(task, "atomic", False))
        self.is_lost = False
        """Another worker has the run, or had it: nothing of this attempt's end was written."""
        self.is_cut = False
        """The transaction of an atomic body was cut off from outside."""
        self.raised: BaseException | None = None
        """What the body raised, where that is an error."""
        self.progress: tuple[int, int | None, str] | None = None
        """What an atomic task told of its progress; written with its finish, for its row shall not be locked before."""
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
        """Keeps what handlers and hooks do to the connection from the run's own transaction."""

    def keep(self, message: runs.Message) -> bool:
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

    def holds(self, celery_ids: Collection[str]) -> bool:
        """Whether one of these tasks was called, but is held back until the finish."""
        return any(message.celery_id in celery_ids for message in self._calls)

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
        except (Ignore, Reject, Retry):
            raise
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.end_body()

    def _or_nothing(self, body: Callable[[], Any]) -> Any:
        """What a failed or retried body wrote is undone; what one wrote that replaced itself is kept."""
        self.guard.leave()
        try:
            with transaction.atomic():
                try:
                    return body()
                except Ignore as error:
                    replaced = error
        except (DatabaseError, InterfaceError) as error:
            was_cut = is_no_answer(error) or connection.connection is None or connection.connection.closed
            self.is_cut = was_cut and not connection.closed_in_transaction
            raise
        finally:
            self.guard.enter()
        raise replaced

    @property
    def is_single(self) -> bool:
        """Whether nothing but the run's own row is to be written."""
        return not (self.progress or self._calls or self._writes or self.task.on_end)

    @property
    def is_plain(self) -> bool:
        """Whether its end as a success would be of that kind."""
        return self.is_single and self._next is None

    def finish(self, outcome: AttemptOutcome) -> bool:
        """Write the outcome and the calls that belong to it, in one transaction. False: the claim was lost."""
        self._in_finish = True
        # One statement is a transaction by itself, and an atomic task's is open.
        with nullcontext() if self.is_single or connection.in_atomic_block else transaction.atomic():
            if self.progress is not None:
                runs.progress(self.claim, *self.progress)
            if not self._write(outcome):
                return bool(self._next or outcome.state == states.IGNORED) and self._is_stopped()
            self._tell(outcome)
            if self._calls:
                self._store_calls()
            for write in self._writes:
                write()
            transaction.on_commit(self.committed)
        return True

    def _is_stopped(self) -> bool:
        """A run that was to be cancelled does not go on by a retry, nor as what replaced it."""
        return bool(settle.revoke_claimed(self.claim.run_id, self.claim.token, only_if_requested=True))

    def start_over(self) -> None:
        """Forget what was to be written with the finish: it is another one."""
        self.end_body()
        self._next, self.result, self.children = None, None, None
        self._calls.clear()
        self._writes.clear()
        self._after.clear()

    def committed(self) -> None:
        """Do what waits for the commit of the finish. Once, however often it is called."""
        if self._calls or self._next:
            waker.wake()
        after, self._after = self._after, []
        for call in after:
            try:
                call()
            except Exception:
                # The run has ended, whatever becomes of what is done after it.
                logger.exception("%s[%s] its result could not be kept", self.task.name, self.claim.run_id)

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

    def _tell(self, outcome: AttemptOutcome) -> None:
        """Tell who waits for the task of its end, where it has ended and nobody else has told it."""
        if self.task.on_end and self._next is None and not outcome.requeue and outcome.state != states.IGNORED:
            end = end_hooks.Outcome.FAILED if outcome.failure else end_hooks.Outcome.SUCCEEDED
            claim = self.claim
            end_hooks.tell_run(self.task.name, claim.run_id, self.celery_id, self.request, end, outcome.failure)

    def _store_calls(self) -> None:
        try:
            runs.insert(self._calls)
        except runs.DuplicateTaskIdError:
            # The finish stands all the same: a duplicate id is its caller's mistake, and it runs already.
            logger.exception("%s[%s] called a task whose id is live", self.task.name, self.claim.run_id)
