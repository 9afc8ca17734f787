"""What each kind of bulk action does with a batch of runs."""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from celery import current_app
from django.db import transaction

from pressroom.conf import declared_queues
from pressroom.enqueue.limits import has_limit, lane_of
from pressroom.enqueue.wakeup import waker
from pressroom.execution import end_hooks, settle
from pressroom.execution.called_runs import cancel_run
from pressroom.models import LIVE, WAITING, BulkAction, Status, TaskCall, TaskRun
from pressroom.operator_actions import move_locked, no_lane
from pressroom.sql import history, many_runs, runs
from pressroom.sql.run_filter import LATER, STANDINGS


@dataclasses.dataclass
class Result:
    """What became of a batch: how many runs were changed, and why the others were not."""

    done: int = 0
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)

    def leave(self, run_ids: Iterable[uuid.UUID], reason: str) -> None:
        """Count runs as skipped."""
        if number := len(list(run_ids)):
            self.skipped[reason] += number


Act = Callable[[BulkAction, list[uuid.UUID]], Result]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of bulk action."""

    statuses: tuple[str, ...]
    """Which runs it can change."""
    act: Act
    """Changes runs in the caller's transaction. They may have changed since they were found."""
    label: str
    done: str
    """What was done, as a participle."""
    also: Callable[[BulkAction], tuple[str, list[Any]]] = lambda action: ("true", [])
    """Returns a condition in SQL on the runs that it can change, and its parameters."""


def _cancel(action: BulkAction, run_ids: list[uuid.UUID]) -> Result:
    ended = settle.revoke_all(run_ids)
    asked = many_runs.request_cancellation([one for one in run_ids if one not in ended])
    result = Result(len(ended) + len(asked))
    for run_id in (one for one in run_ids if one not in ended and one not in asked):
        # Between the two looks, a running one may have come to wait.
        if cancel_run(run_id):
            result.done += 1
        else:
            result.leave([run_id], "The task has already ended.")
    return result


def _run_again(action: BulkAction, run_ids: list[uuid.UUID]) -> Result:
    result = Result()
    again = many_runs.repeated(run_ids)
    result.leave(again, "It was run again already.")
    lanes = lanes_of([one for one in run_ids if one not in again], "", result)
    new = many_runs.repeat_all(lanes)
    result.done = len(new)
    result.leave(lanes.keys() - new.keys(), "The task is already running again, or no longer exists.")
    for row in _with_hook(new.values()):
        end_hooks.tell_row(row, outcome=end_hooks.Outcome.RESTARTED)
    transaction.on_commit(waker.wake)
    return result


def _run_now(action: BulkAction, run_ids: list[uuid.UUID]) -> Result:
    hastened = many_runs.hasten(run_ids)
    result = Result(len(hastened))
    result.leave(set(run_ids).difference(hastened), "It no longer waits for a later time.")
    transaction.on_commit(waker.wake)
    return result


def _move(action: BulkAction, run_ids: list[uuid.UUID]) -> Result:
    result = Result()
    waiting = many_runs.lock_waiting(run_ids)
    result.leave(set(run_ids).difference(waiting), "It no longer waits.")
    result.done = move_locked(lanes_of(waiting, action.queue, result), action.queue, action.priority)
    return result


def _discard(action: BulkAction, run_ids: list[uuid.UUID]) -> Result:
    dead = many_runs.lock_dead(run_ids)
    result = Result(len(dead))
    result.leave(set(run_ids).difference(dead), "Only a dead letter can be discarded.")
    for row in _with_hook(dead):
        end_hooks.tell_row(row, outcome=end_hooks.Outcome.DISCARDED)
    history.delete_runs(dead)
    return result


def lanes_of(run_ids: Iterable[uuid.UUID], queue: str, result: Result) -> dict[uuid.UUID, str | None]:
    """Return the lane of each run in ``queue``, or in its own if that is empty.

    Leaves out a run whose key cannot be found, and counts it in ``result``.
    """
    limited = {one.name for one in declared_queues().values() if one.has_limit}
    lanes: dict[uuid.UUID, str | None] = {}
    left: dict[uuid.UUID, tuple[Any, str]] = {}
    found = TaskRun.objects.filter(pk__in=list(run_ids)).values_list("pk", "name", "queue").order_by("pk")
    for run_id, name, own in found:
        task, at = current_app.tasks.get(name), queue or own
        if has_limit(task) or at in limited:
            left[run_id] = task, at
        else:
            lanes[run_id] = None
    # Only of these is the body read, which may be long.
    for run in TaskRun.objects.filter(pk__in=list(left)).only("pk") if left else ():
        task, at = left[run.pk]
        try:
            lanes[run.pk] = lane_of(task, at, *run.arguments)
        except TaskCall.DoesNotExist:
            result.leave([run.pk], "It no longer exists.")
        except Exception as error:  # noqa: BLE001 - the key is the task's own function
            result.leave([run.pk], no_lane(error))
    return lanes


def _with_hook(run_ids: Iterable[uuid.UUID]) -> list[runs.SettledRun]:
    """Return what Celery needs to know of those of the runs whose tasks have an ``on_end``."""
    named = TaskRun.objects.filter(pk__in=list(run_ids)).values_list("pk", "name")
    hooked: dict[str, bool] = {}
    wanted = []
    for run_id, name in named:
        if name not in hooked:
            hooked[name] = end_hooks.hook_of(name) is not None
        if hooked[name]:
            wanted.append(run_id)
    return runs.all_as_ended(wanted)


def _elsewhere(action: BulkAction) -> tuple[str, list[Any]]:
    if not action.queue and action.priority is None:
        # Nobody has said yet where to.
        return "true", []
    return (
        "(queue <> coalesce(nullif(%s, ''), queue) OR priority <> coalesce(%s, priority))",
        [action.queue, action.priority],
    )


KINDS = {
    BulkAction.Kind.CANCEL: Kind(LIVE, _cancel, "Cancel", "cancelled, or asked to stop"),
    BulkAction.Kind.RUN_AGAIN: Kind(
        (Status.DEAD, Status.CANCELLED, Status.EXPIRED), _run_again, "Run again", "run again"
    ),
    BulkAction.Kind.RUN_NOW: Kind(WAITING, _run_now, "Run now", "due now", lambda action: (STANDINGS[LATER], [None])),
    BulkAction.Kind.MOVE: Kind(WAITING, _move, "Move", "moved", _elsewhere),
    BulkAction.Kind.DISCARD: Kind((Status.DEAD,), _discard, "Discard", "discarded"),
}
