"""What waits for a task learns how it ended: the task's ``on_end``, called in the transaction of the end.

There is one place that calls it for every way to end: `Execution.finish` for what a worker wrote, `terminal` for what
the ledger ends by itself, `actions` for what people do, and `results` for the steps of a chain or chord that never run.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import uuid
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, transaction
from django.utils.module_loading import autodiscover_modules

from pressroom.sql.runs import Failure, SettledRun
from pressroom.text import carried

logger = logging.getLogger(__name__)

_connection: Any = connection  # pressroom.database's, which the stubs take for Django's
TELL_END = "pressroom.tasks.tell_end"


class Outcome(StrEnum):
    """What became of a run. A retry and a replacement are no end: the run goes on."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """A dead letter: its own error, its last lost attempt, or its time limit."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DISCARDED = "discarded"
    """A dead letter that was deleted: it was told as failed before."""
    RESTARTED = "restarted"
    """It was run again: a new run, with the same Celery id, is waiting."""


OF_STATUS = {
    "succeeded": Outcome.SUCCEEDED,
    "dead": Outcome.FAILED,
    "cancelled": Outcome.CANCELLED,
    "expired": Outcome.EXPIRED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """How a call of a task ended."""

    outcome: Outcome
    name: str
    celery_id: str
    root_id: str
    """The Celery id of the call that this one goes back to; its own where it was called by nobody."""
    args: list[Any]
    kwargs: dict[str, Any]
    run_id: str = ""
    """The run; of a restart the new one. Empty for a step that never became a run."""
    error_type: str = ""
    error: str = ""
    """Of what has failed: the class of the exception, and its text."""

    @property
    def is_loss(self) -> bool:
        """Whether the task will not do its work, unless somebody runs it again."""
        return self.outcome not in (Outcome.SUCCEEDED, Outcome.RESTARTED)


Hook = Callable[[End], object]


def hook_of(name: str) -> Hook | None:
    """The ``on_end`` of a task, also in a process that has not loaded the tasks."""
    task = current_app.tasks.get(name)
    if task is None:
        autodiscover_modules("tasks")
        task = current_app.tasks.get(name)
    return getattr(task, "on_end", None)


def tell(end: End) -> None:
    """Call the task's hook, if it has one, in the caller's transaction.

    A hook that raises undoes its own writes alone. `tell_end` then tries it again, as a task of its own: what fails for
    good is a dead letter with the hook's error. Raises only what leaves no transaction to go on with.
    """
    hook = hook_of(end.name)
    if hook is None:
        return
    try:
        call_hook(hook, end)
    except SoftTimeLimitExceeded:
        # Not the hook's: the caller repeats the whole end.
        raise
    except Exception:
        if not connection.is_usable():
            raise
        # Also what may pass, as a lock that was waited for: this one must not hold up others' ends.
        logger.exception("%s[%s] its on_end failed (%s): to be tried again", end.name, end.run_id, end.outcome)
        _tell_later(end)


def call_hook(hook: Hook, end: End) -> None:
    """Call it in a savepoint of its own. Raises what it raises, and what Postgres has against its writes."""
    with transaction.atomic():
        savepoints, blocks = _connection.savepoint_ids, _connection.atomic_blocks
        depth, opened = len(savepoints), len(blocks)
        was_kept, _connection.is_kept = _connection.is_kept, True
        try:
            hook(end)
            if len(blocks) > opened:
                raise RuntimeError("on_end left a transaction open")
        finally:
            _connection.is_kept = was_kept
            del savepoints[depth:], blocks[opened:]
        # What a deferred constraint refuses would undo the end at its commit, as what is broken already would.
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def _tell_later(end: End) -> None:
    try:
        with transaction.atomic():
            # By name: this process need not have loaded the tasks.
            current_app.send_task(TELL_END, args=[dataclasses.asdict(end)])
    except Exception:
        if not connection.is_usable():
            raise
        logger.exception("%s[%s] nor can it be tried again", end.name, end.run_id)


def tell_row(row: SettledRun, error: Failure | None = None, outcome: Outcome | None = None) -> None:
    """Tell of a run by its row. ``outcome`` is what its status says, unless it is given."""
    outcome = outcome or OF_STATUS.get(row.status)
    if outcome is None or hook_of(row.name) is None:
        return
    args, kwargs, _ = json.loads(row.body)
    root_id = json.loads(row.headers).get("root_id") or row.celery_id
    told = error or Failure("", "", "")
    tell(End(outcome, row.name, row.celery_id, root_id, args, kwargs, str(row.run_id), told.error_type, told.error))


def tell_run(
    name: str, run_id: uuid.UUID, celery_id: str, request: dict[str, Any], outcome: Outcome, failure: Failure | None
) -> None:
    """Tell of the run that a worker executes, by its request."""
    told = failure or Failure("", "", "")
    root_id = request.get("root_id") or celery_id
    args, kwargs = list(request.get("args") or ()), dict(request.get("kwargs") or {})
    tell(End(outcome, name, celery_id, root_id, args, kwargs, str(run_id), told.error_type, told.error))


def waited_for(steps: Iterable[Any]) -> list[dict[str, Any]]:
    """Of these signatures, and of all in them, those of tasks that somebody waits for."""
    found: list[dict[str, Any]] = []
    left = list(steps)
    while left:
        step = left.pop()
        if isinstance(step, list | tuple):
            left.extend(step)
        elif isinstance(step, dict):
            inner, options = step.get("kwargs") or {}, step.get("options") or {}
            if step.get("subtask_type"):
                left.extend(inner[name] for name in ("tasks", "header", "body") if inner.get(name))
            elif hook_of(str(step.get("task"))) is not None:
                found.append(step)
            left.extend(options[name] for name in ("link", "chain") if options.get(name))
    return found


def tell_unrun(steps: Iterable[dict[str, Any]], root_id: str, error: BaseException, outcome: Outcome) -> None:
    """Tell of steps of a chain, or a chord's body, that never become runs: what came before them did not succeed."""
    for step in steps:
        celery_id = (step.get("options") or {}).get("task_id") or ""
        args, kwargs = list(step.get("args") or ()), dict(step.get("kwargs") or {})
        told = type(error).__name__, carried(error)
        tell(End(outcome, str(step["task"]), celery_id, root_id, args, kwargs, "", *told))
