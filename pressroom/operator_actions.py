"""What people do with runs: cancel, run again, discard. The admin's log records each action with its user."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.db import transaction

from pressroom.enqueue.wakeup import waker
from pressroom.execution import end_hooks
from pressroom.execution.called_runs import cancel_run
from pressroom.models import EndedRun, LiveRun, Status, TaskCall, TaskRun
from pressroom.sql import history, runs


class NotPossible(Exception):
    """The run's status does not allow the action. The text says why."""


def run_cancel(*, run: TaskRun, user: Any) -> None:
    """Cancel a run. A waiting run never starts; the process of a running one is killed within a heartbeat.

    If other tasks replaced the run, they are cancelled. Raises NotPossible for a run that has ended.
    """
    with transaction.atomic():
        cancelled = [cancel_run(one) for one in (run.pk, *_in_place_of(run))]
        if not any(cancelled):
            raise NotPossible("The task has already ended.")
        _record(user, run, CHANGE, "cancelled")


def _in_place_of(run: TaskRun) -> list[uuid.UUID]:
    """Return the live runs that replaced this one. They are found among its owner's runs, so it needs an owner."""
    if run.owner_id is None or not TaskRun.objects.filter(pk=run.pk, status=Status.REPLACED).exists():
        return []
    later = LiveRun.objects.filter(owner=run.owner_id, pk__gt=run.pk).values("pk")
    root = json.dumps(json.loads(run.headers).get("root_id") or run.celery_id)
    calls = TaskCall.objects.filter(pk__in=later, headers__contains=f'"root_id": {root}')
    return list(calls.order_by("pk").values_list("pk", flat=True))


def run_again(*, run: TaskRun, user: Any) -> TaskRun:
    """Run a dead, cancelled or expired run again, as a new run linked to it. Raises NotPossible for other runs."""
    with transaction.atomic():
        try:
            new_id = runs.repeat(run.pk)
        except runs.DuplicateTaskIdError as error:
            raise NotPossible("The task is already running again.") from error
        if new_id is None:
            raise NotPossible("Only a dead, cancelled or expired run can run again.")
        end_hooks.tell_row(runs.as_ended(new_id), outcome=end_hooks.Outcome.RESTARTED)
        _record(user, run, CHANGE, f"run again as {new_id}")
        transaction.on_commit(waker.wake)
        return TaskRun.objects.get(pk=new_id)


def run_discard(*, run: TaskRun, user: Any) -> None:
    """Discard a dead letter: delete it and its attempts. Raises NotPossible for a run that is not dead."""
    with transaction.atomic():
        if not EndedRun.objects.select_for_update().only("id").filter(pk=run.pk, status=Status.DEAD).first():
            raise NotPossible("Only a dead letter can be discarded.")
        end_hooks.tell_row(runs.as_ended(run.pk), outcome=end_hooks.Outcome.DISCARDED)
        history.delete_runs([run.pk])
        _record(user, run, DELETION, f"discarded {run.name}: {run.error_type} {run.error}")


def _record(user: Any, run: TaskRun, action: int, message: str) -> None:
    if user is not None and user.pk is not None:
        LogEntry.objects.log_actions(user.pk, [run], action, change_message=message, single_object=True)
