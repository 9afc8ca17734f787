"""Write the ends that no worker writes, and inform Celery in the same transaction.

A run that expired, lost its last attempt or overran its limit never reaches the end of Celery's tracer. The functions
here call its errbacks and fail the rest of its chain and its chord.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Collection, Sequence
from functools import partial

from celery import current_app, signals, states
from celery.app.task import Context
from celery.backends.base import Backend
from celery.exceptions import NotRegistered, TimeLimitExceeded, WorkerLostError
from django.conf import settings
from django.db import connection, transaction

from pressroom import tracing
from pressroom.database.errors import is_no_answer
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import end_hooks
from pressroom.execution.outcome import describe
from pressroom.signals import run_lost
from pressroom.sql import backlog, ends, failed_dispatches, lost_attempts, runs
from pressroom.sql.runs import Claim, Failure, SettledRun

logger = logging.getLogger(__name__)


def record_lost_attempt(run_id: uuid.UUID, token: uuid.UUID, failure: Failure = runs.LOST) -> int:
    """Record the loss of an attempt. Returns 1, or 0 if the attempt has ended otherwise."""
    return len(_settle(lambda: lost_attempts.lose_claim(run_id, token, failure), was_killed=True))


def record_lost_bundle(worker_id: int, token: uuid.UUID, failure: Failure = runs.LOST) -> list[SettledRun]:
    """Record the loss of every attempt under a claim token. Returns their runs as they are now."""
    return _settle(lambda: lost_attempts.lose_bundle(worker_id, token, failure), was_killed=True)


def rescue_orphans() -> int:
    """Record the loss of every attempt whose worker is dead. Returns how many."""
    return len(_settle(lost_attempts.lose_orphans, was_killed=True))


def expire_overdue() -> int:
    """Expire waiting runs past their expiry. Returns how many."""
    return len(_settle(ends.expire))


def revoke_waiting(run_id: uuid.UUID) -> int:
    """Cancel a run that no worker has begun. Returns 1, or 0 if one has."""
    return len(_settle(lambda: ends.cancel_waiting(run_id)))


def revoke_all(run_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Cancel those of the runs that no worker has begun, and return them."""
    return {row.run_id for row in _settle(lambda: ends.cancel_all_waiting(run_ids))}


def defer_unknown_task(run_id: uuid.UUID, name: str) -> int:
    """Postpone a run whose task a worker did not know. Returns 1, or 0 if the run no longer waits."""
    pause, limit = settings.TASKRUNS_UNKNOWN_PAUSE, settings.TASKRUNS_UNKNOWN_LIMIT
    error = NotRegistered(name)
    failure = Failure("NotRegistered", f"No worker knows the task {name!r}.", "")
    return len(_settle(lambda: ends.postpone_unknown(run_id, failure, _encoded(error), pause, limit), error))


def revoke_claimed(run_id: uuid.UUID, token: uuid.UUID, only_if_requested: bool = False) -> int:
    """Cancel a running run that was stopped. Returns 1, or 0 if it has ended otherwise.

    With ``only_if_requested``, also returns 0 if nobody has requested the cancellation.
    """
    return len(_settle(lambda: ends.cancel_claim(run_id, token, only_if_requested), was_running=True))


def count_missed_dispatch(run_ids: Collection[uuid.UUID], reason: str, attempt: int | None = None) -> int:
    """Count a miss for each run whose message's reader died before the claim. Returns how many were counted."""
    error = WorkerLostError(reason)
    return len(_settle(lambda: failed_dispatches.missed(run_ids, describe(error), attempt), error))


def count_refused_dispatch(run_id: uuid.UUID, error: Exception, counts: bool) -> int:
    """Record that Redis refused a run's message. Returns 1, or 0 if the run no longer waits."""
    return len(_settle(lambda: failed_dispatches.refused(run_id, describe(error), counts), error))


def fail_unclaimed(run_id: uuid.UUID, error: Exception, attempt: int | None = None) -> int:
    """Make a run that no worker can take a dead letter with ``error``. Returns 1, or 0 if it no longer waits."""
    return len(
        _settle(lambda: failed_dispatches.fail_waiting(run_id, describe(error), _encoded(error), attempt), error)
    )


def end_overrun(worker_id: int, token: uuid.UUID, limit: float) -> list[SettledRun]:
    """Make the run under a claim token, whose process was killed at the hard limit (seconds), a dead letter.

    Returns the run. Returns nothing if it has ended, or if several runs are claimed under the token: then it is not
    known which of them overran.
    """
    running = backlog.running_under(worker_id, token)
    return _failed_by_ledger(running[0], TimeLimitExceeded(limit)) if len(running) == 1 else []


def fail_claimed(claim: Claim, error: Exception) -> int:
    """Make a claimed run a dead letter with ``error``. Returns 1, or 0 if it has ended otherwise."""
    return len(_failed_by_ledger(claim, error))


def _failed_by_ledger(claim: Claim, error: Exception) -> list[SettledRun]:
    result = _encoded(error)

    def write() -> list[SettledRun]:
        return [runs.as_ended(claim.run_id)] if ends.fail(claim, describe(error), result) else []

    return _settle(write, error, was_killed=True)


def _encoded(error: Exception) -> str:
    """Return the error in the form that the backend keeps and `get()` raises."""
    backend = current_app.backend
    return str(backend.encode(backend.encode_result(error, states.FAILURE)))


def _settle(
    write: Callable[[], list[SettledRun]],
    error: Exception | None = None,
    was_running: bool = False,
    was_killed: bool = False,
) -> list[SettledRun]:
    """Change runs by ``write`` and inform their hooks and Celery of those that have ended. Returns the runs.

    With ``was_killed`` the process of their last attempt could not tell of it, so this one makes its span.
    """
    with transaction.atomic():
        rows = write()
        if was_killed and rows and tracing.active is not None:
            transaction.on_commit(partial(tracing.active.lost, [row.run_id for row in rows]))
        for row in rows:
            if row.status == "dead":
                reason = error or WorkerLostError(runs.LOST.error)
                end_hooks.tell_row(row, describe(reason))
                _inform_celery(row, partial(_failed, reason))
                transaction.on_commit(partial(_announce, row, reason), robust=True)
            elif row.status in ("expired", "cancelled"):
                end_hooks.tell_row(row)
                if not _is_known_by_the_ledger_alone(row):
                    # The reasons that Celery uses.
                    _inform_celery(row, partial(_revoked, "expired" if row.status == "expired" else "revoked"))
                transaction.on_commit(partial(_announce_revoked, row, was_running), robust=True)
    return rows


def _failed(reason: Exception, backend: Backend, celery_id: str, request: Context) -> None:
    backend.mark_as_failure(celery_id, reason, request=request)


def _announce(row: SettledRun, reason: Exception) -> None:
    args, kwargs, _ = json.loads(row.body)
    run_lost.send(None, name=row.name, celery_id=row.celery_id, args=args, kwargs=kwargs, error=reason)


def _announce_revoked(row: SettledRun, was_running: bool) -> None:
    signals.task_revoked.send(
        sender=current_app.tasks.get(row.name), request=_request(row), terminated=was_running, signum=None,
        expired=row.status == "expired",
    )  # fmt: skip


def _revoked(reason: str, backend: Backend, celery_id: str, request: Context) -> None:
    backend.mark_as_revoked(celery_id, reason, request=request)


def _inform_celery(row: SettledRun, report: Callable[[Backend, str, Context], None]) -> None:
    """Inform Celery that a run has ended. A callback that fails must not undo this end or any other."""
    try:
        with transaction.atomic():
            _report_end(row, report)
            # Celery swallows the errors of errbacks. A database error among them would undo everything at the commit.
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except Exception as error:
        if is_no_answer(error):
            raise
        logger.exception("%s[%s] has ended, but its callbacks could not be called", row.name, row.run_id)


def _is_known_by_the_ledger_alone(row: SettledRun) -> bool:
    """Return whether Celery has nobody to tell that the run was revoked: no chord, no chain, and no copy of results.

    To ask costs far less than to tell, for an operator may cancel a hundred thousand at once.
    """
    task = current_app.tasks.get(row.name)
    backend = task.backend if task is not None else current_app.backend
    # Not by inheritance: another class may keep something of its own.
    if not vars(type(backend)).get("keeps_only_runs", False):
        return False
    try:
        embed = json.loads(row.body)[2]
        return not any(embed.get(name) for name in ("callbacks", "chain", "chord"))
    except Exception:  # noqa: BLE001 - whoever tells Celery of it logs what is wrong
        return False


def _report_end(row: SettledRun, report: Callable[[Backend, str, Context], None]) -> None:
    task = current_app.tasks.get(row.name)
    report(task.backend if task is not None else current_app.backend, row.celery_id, _request(row))


def _request(row: SettledRun) -> Context:
    headers = json.loads(row.headers)
    args, kwargs, embed = json.loads(row.body)
    request = Context({**headers, **embed, "args": args, "kwargs": kwargs, "delivery_info": {}})
    request.update({HEADER: {"id": str(row.run_id)}, "ended_by_ledger": True})
    return request
