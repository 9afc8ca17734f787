"""Call a task's ``on_end`` in the transaction that ends its run.

Each way to end has one place that calls it: `Execution.finish` for the outcomes that a worker writes, `settle` for the
runs that the ledger ends, `operator_actions` for what people do, and `result_backend` for the steps of a chain or chord
that never run.
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

from pressroom.process.user_code import guarded
from pressroom.sql.runs import Failure, SettledRun
from pressroom.text import carried

logger = logging.getLogger(__name__)

_connection: Any = connection  # pressroom.database's, which the stubs take for Django's
TELL_END = "pressroom.tasks.tell_end"


class Outcome(StrEnum):
    """How a run ended. A retry or a replacement does not end it: the run goes on."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It became a dead letter, by its own error, its last lost attempt or its time limit."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DISCARDED = "discarded"
    """An operator discarded the dead letter. The hook was called with FAILED before."""
    RESTARTED = "restarted"
    """An operator ran it again: a new run with the same Celery id is waiting."""


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
    """The Celery id of the first call that led to this one; its own if no task called it."""
    args: list[Any]
    kwargs: dict[str, Any]
    run_id: str = ""
    """The key of the run, after a restart that of the new one. Empty for a step that never became a run."""
    error_type: str = ""
    error: str = ""
    """The exception's class (``error_type``) and text (``error``) if the call failed."""

    @property
    def is_loss(self) -> bool:
        """Whether the task's work will not be done unless somebody runs it again."""
        return self.outcome not in (Outcome.SUCCEEDED, Outcome.RESTARTED)


Hook = Callable[[End], object]


def hook_of(name: str) -> Hook | None:
    """Return the ``on_end`` of a task. Loads the tasks if this process has not done so."""
    task = current_app.tasks.get(name)
    if task is None:
        autodiscover_modules("tasks")
        task = current_app.tasks.get(name)
    return getattr(task, "on_end", None)


def tell(end: End) -> None:
    """Call the task's hook, if it has one, in the caller's transaction.

    If the hook raises, only its own writes are undone. The task `tell_end` then tries it again. If that fails for good,
    its run becomes a dead letter with the hook's error. Raises only errors that leave the transaction unusable.
    """
    hook = hook_of(end.name)
    if hook is None:
        return
    try:
        call_hook(hook, end)
    except SoftTimeLimitExceeded:
        # The limit is that of the run, and the caller repeats the whole end.
        raise
    except Exception:
        if not connection.is_usable():
            raise
        # Temporary errors too (a lock, for example): this hook must not delay the ends of other runs.
        logger.exception("%s[%s] its on_end failed (%s) and will be tried again", end.name, end.run_id, end.outcome)
        _tell_later(end)


def call_hook(hook: Hook, end: End) -> None:
    """Call ``hook`` in a savepoint. Raises its errors and those of the constraints that its writes violate."""
    with transaction.atomic():
        savepoints, blocks = _connection.savepoint_ids, _connection.atomic_blocks
        depth, opened = len(savepoints), len(blocks)
        was_kept, _connection.is_kept = _connection.is_kept, True
        try:
            guarded("on_end", hook, end)
            if len(blocks) > opened:
                raise RuntimeError("on_end left a transaction open")
        finally:
            _connection.is_kept = was_kept
            del savepoints[depth:], blocks[opened:]
        # Check deferred constraints now: at the commit a violation would undo the end.
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def _tell_later(end: End) -> None:
    try:
        with transaction.atomic():
            # By name, because this process may not have loaded the tasks.
            current_app.send_task(TELL_END, args=[dataclasses.asdict(end)])
    except Exception:
        if not connection.is_usable():
            raise
        logger.exception("%s[%s] the call of its on_end could not be stored either", end.name, end.run_id)


def tell_row(row: SettledRun, error: Failure | None = None, outcome: Outcome | None = None) -> None:
    """Call the hook for a run, given its row. ``outcome`` defaults to the one of the row's status."""
    outcome = outcome or OF_STATUS.get(row.status)
    if outcome is None or hook_of(row.name) is None:
        return
    args, kwargs, _ = json.loads(row.body)
    root_id = json.loads(row.headers).get("root_id") or row.celery_id
    cause = error or Failure("", "", "")
    tell(End(outcome, row.name, row.celery_id, root_id, args, kwargs, str(row.run_id), cause.error_type, cause.error))


def tell_run(
    name: str, run_id: uuid.UUID, celery_id: str, request: dict[str, Any], outcome: Outcome, failure: Failure | None
) -> None:
    """Call the hook for the run that this worker executes, given its request."""
    cause = failure or Failure("", "", "")
    root_id = request.get("root_id") or celery_id
    args, kwargs = list(request.get("args") or ()), dict(request.get("kwargs") or {})
    tell(End(outcome, name, celery_id, root_id, args, kwargs, str(run_id), cause.error_type, cause.error))


def waited_for(steps: Iterable[Any]) -> list[dict[str, Any]]:
    """Return those of these signatures, and of all nested in them, whose tasks have an ``on_end``."""
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
    """Call the hooks of steps that never become runs, because an earlier step of the chain or chord failed."""
    for step in steps:
        celery_id = (step.get("options") or {}).get("task_id") or ""
        args, kwargs = list(step.get("args") or ()), dict(step.get("kwargs") or {})
        error_type, text = type(error).__name__, carried(error)
        tell(End(outcome, str(step["task"]), celery_id, root_id, args, kwargs, "", error_type, text))
