"""Ends that the ledger writes by itself, told to Celery in the same transaction.

A run that expired, lost its last attempt or overran its limit never reaches Celery's tracer: its errbacks, the rest
of its chain and its chord learn of it here.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from celery import current_app, signals, states
from celery.app.task import Context
from celery.exceptions import NotRegistered, TimeLimitExceeded, WorkerLostError
from django.conf import settings
from django.db import connection, transaction

from pressroom.database.errors import is_no_answer
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import end_hooks
from pressroom.signals import run_lost
from pressroom.sql import backlog, ends, failed_dispatches, runs
from pressroom.sql.runs import Claim, Failure, SettledRun
from pressroom.text import carried

logger = logging.getLogger(__name__)


def record_lost_attempt(run_id: uuid.UUID, token: uuid.UUID, failure: Failure = runs.LOST) -> int:
    """An attempt that ended without a verdict. Returns 1, or 0 where it had ended otherwise."""
    return len(_told(lambda: ends.lose_claim(run_id, token, failure)))


def record_lost_bundle(worker_id: int, token: uuid.UUID, failure: Failure = runs.LOST) -> list[SettledRun]:
    """Every attempt under a token. Returns what became of their runs."""
    return _told(lambda: ends.lose_bundle(worker_id, token, failure))


def rescue_orphans() -> int:
    """Every attempt whose worker is dead. Returns how many."""
    return len(_told(ends.lose_orphans))


def expire_overdue() -> int:
    """Waiting runs past their expiry. Returns how many."""
    return len(_told(ends.expire))


def revoke_waiting(run_id: uuid.UUID) -> int:
    """A run that has not begun. Returns 1, or 0 where it has."""
    return len(_told(lambda: ends.cancel_waiting(run_id)))


def defer_unknown_task(run_id: uuid.UUID, name: str) -> int:
    """A run whose task a worker did not know. Returns 1, or 0 where it does not wait any more."""
    pause, limit = settings.TASKRUNS_UNKNOWN_PAUSE, settings.TASKRUNS_UNKNOWN_LIMIT
    error = NotRegistered(name)
    failure = Failure("NotRegistered", f"No worker knows the task {name!r}.", "")
    return len(_told(lambda: ends.postpone_unknown(run_id, failure, _encoded(error), pause, limit), error))


def revoke_claimed(run_id: uuid.UUID, token: uuid.UUID, only_if_requested: bool = False) -> int:
    """A run that was stopped to cancel it. Returns 1, or 0 where it had ended otherwise, or nobody wanted that."""
    return len(_told(lambda: ends.cancel_claim(run_id, token, only_if_requested), was_running=True))


def count_missed_dispatch(run_ids: Collection[uuid.UUID], reason: str, attempt: int | None = None) -> int:
    """Dispatches that ended without a claim, as their reader died. Returns how many were counted."""
    error = WorkerLostError(reason)
    return len(_told(lambda: failed_dispatches.missed(run_ids, _failure(error), attempt), error))


def count_refused_dispatch(run_id: uuid.UUID, error: Exception, counts: bool) -> int:
    """A dispatch that Redis refused. Returns 1, or 0 where the run does not wait any more."""
    return len(_told(lambda: failed_dispatches.refused(run_id, _failure(error), counts), error))


def fail_unclaimed(run_id: uuid.UUID, error: Exception, attempt: int | None = None) -> int:
    """A run that no worker can take, for ``error``: a dead letter. Returns 1, or 0 where it does not wait any more."""
    return len(_told(lambda: failed_dispatches.fail_waiting(run_id, _failure(error), _encoded(error), attempt), error))


def end_overrun(worker_id: int, token: uuid.UUID, limit: float) -> list[SettledRun]:
    """What ran under a token when its process was killed at a hard limit of so many seconds.

    Nothing where it had ended, or several were claimed, of which nobody knows who it was.
    """
    running = backlog.running_under(worker_id, token)
    return _failed_by_ledger(running[0], TimeLimitExceeded(limit)) if len(running) == 1 else []


def fail_claimed(claim: Claim, error: Exception) -> int:
    """A run that ends as a dead letter for ``error``. Returns 1, or 0 where it had ended otherwise."""
    return len(_failed_by_ledger(claim, error))


def _failed_by_ledger(claim: Claim, error: Exception) -> list[SettledRun]:
    result = _encoded(error)

    def write() -> list[SettledRun]:
        return [runs.as_ended(claim.run_id)] if ends.fail(claim, _failure(error), result) else []

    return _told(write, error)


def _failure(error: Exception) -> Failure:
    return Failure(type(error).__name__, carried(error), "")


def _encoded(error: Exception) -> str:
    """The error as the backend keeps it, for `get()` to raise."""
    backend = current_app.backend
    return str(backend.encode(backend.encode_result(error, states.FAILURE)))


def _told(
    write: Callable[[], list[SettledRun]], error: Exception | None = None, was_running: bool = False
) -> list[SettledRun]:
    with transaction.atomic():
        rows = write()
        for row in rows:
            if row.status == "dead":
                reason = error or WorkerLostError(runs.LOST.error)
                end_hooks.tell_row(row, _failure(reason))
                _tell(row, partial(_failed, reason))
                transaction.on_commit(partial(_announce, row, reason), robust=True)
            elif row.status in ("expired", "cancelled"):
                end_hooks.tell_row(row)
                # Celery's word for it.
                _tell(row, partial(_revoked, "expired" if row.status == "expired" else "revoked"))
                transaction.on_commit(partial(_announce_revoked, row, was_running), robust=True)
    return rows


def _failed(reason: Exception, backend: Any, celery_id: str, request: Context) -> None:
    backend.mark_as_failure(celery_id, reason, request=request)


def _announce(row: SettledRun, reason: Exception) -> None:
    args, kwargs, _ = json.loads(row.body)
    run_lost.send(None, name=row.name, celery_id=row.celery_id, args=args, kwargs=kwargs, error=reason)


def _announce_revoked(row: SettledRun, was_running: bool) -> None:
    signals.task_revoked.send(
        sender=current_app.tasks.get(row.name), request=_request(row), terminated=was_running, signum=None,
        expired=row.status == "expired",
    )  # fmt: skip


def _revoked(reason: str, backend: Any, celery_id: str, request: Context) -> None:
    backend.mark_as_revoked(celery_id, reason, request=request)


def _tell(row: SettledRun, tell: Callable[[Any, str, Context], None]) -> None:
    """Tell Celery of a row's end. What fails in a callback of one row must not keep the others, nor the end itself."""
    try:
        with transaction.atomic():
            _tell_celery(row, tell)
            # Celery swallows what an errback raises: a database error among it would undo all at the commit.
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except Exception as error:
        if is_no_answer(error):
            raise
        logger.exception("%s[%s] has ended, but its callbacks could not be called", row.name, row.run_id)


def _tell_celery(row: SettledRun, tell: Callable[[Any, str, Context], None]) -> None:
    task = current_app.tasks.get(row.name)
    tell(task.backend if task is not None else current_app.backend, row.celery_id, _request(row))


def _request(row: SettledRun) -> Context:
    headers = json.loads(row.headers)
    args, kwargs, embed = json.loads(row.body)
    request = Context({**headers, **embed, "args": args, "kwargs": kwargs, "delivery_info": {}})
    request.update({HEADER: {"id": str(row.run_id)}, "told_by_ledger": True})
    return request
