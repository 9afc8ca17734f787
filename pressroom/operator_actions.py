"""What people do with one run: cancel, run again, run now, move, discard; and with queues and tasks: pause, resume,
limit. `pressroom.bulk` acts on many runs.

The admin's log records each action with its user.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from functools import partial
from types import EllipsisType
from typing import Any

from celery import current_app
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db import transaction

from pressroom.conf import declared_queues
from pressroom.enqueue.arguments import check_priority
from pressroom.enqueue.limits import has_limit, lane_of, lane_of_key
from pressroom.enqueue.wakeup import waker
from pressroom.enqueue.withdrawal import withdraw
from pressroom.execution import end_hooks
from pressroom.execution.called_runs import cancel_run
from pressroom.models import BulkAction, EndedRun, Limit, LiveRun, Pause, PauseTarget, Status, TaskCall, TaskRun
from pressroom.queues import MOST, parsed_rate
from pressroom.sql import history, limits, many_runs, pauses, runs
from pressroom.text import carried, shown


class NotPossible(Exception):
    """The state of the run, queue or task does not allow the action. The text says why."""


def run_cancel(*, run: TaskRun, user: Any) -> None:
    """Cancel a run. A waiting run never starts; the process of a running one is killed within a heartbeat.

    If other tasks replaced the run, they are cancelled. Raises NotPossible for a run that has ended.
    """
    with transaction.atomic():
        cancelled = [cancel_run(one) for one in (run.pk, *_in_place_of(run))]
        if not any(cancelled):
            raise NotPossible("The task has already ended.")
        record(user, run, CHANGE, "cancelled")


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
            new_id = runs.repeat(run.pk, _lane_of(run))
        except runs.DuplicateTaskIdError as error:
            raise NotPossible("The task is already running again.") from error
        if new_id is None:
            raise NotPossible("Only a dead, cancelled or expired run can run again.")
        end_hooks.tell_row(runs.as_ended(new_id), outcome=end_hooks.Outcome.RESTARTED)
        record(user, run, CHANGE, f"run again as {new_id}")
        transaction.on_commit(waker.wake)
        return TaskRun.objects.get(pk=new_id)


def run_now(*, run: TaskRun, user: Any) -> None:
    """Make a run due now that waits for a later time. Raises NotPossible for other runs."""
    with transaction.atomic():
        if not many_runs.hasten([run.pk]):
            raise NotPossible("Only a run that waits for a later time can be made due now.")
        record(user, run, CHANGE, "made due now")
        transaction.on_commit(waker.wake)


def run_move(*, run: TaskRun, user: Any, queue: str = "", priority: int | None = None) -> None:
    """Give a waiting run another queue, if ``queue`` is not empty, and a priority, if it is not None.

    Raises ValueError if there is no such queue or priority, and NotPossible if the run does not wait.
    """
    check_move(queue, priority)
    with transaction.atomic():
        if not many_runs.lock_waiting([run.pk]):
            raise NotPossible("Only a waiting run can be moved.")
        run = TaskRun.objects.get(pk=run.pk)
        move_locked({run.pk: _lane_of(run, queue)}, queue, priority)
        record(user, run, CHANGE, f"moved from {run.queue}, priority {run.priority}, to {moved_to(queue, priority)}")


def move_locked(lanes: Mapping[uuid.UUID, str | None], queue: str, priority: int | None) -> int:
    """Move waiting runs that the caller has locked, and take back their messages. Returns how many were moved.

    ``lanes`` gives the lane of each run in its new queue.
    """
    published = many_runs.published_in(list(lanes)) if queue else {}
    moved = many_runs.move(lanes, queue, priority)
    elsewhere = {one: old for one, old in published.items() if old != queue and one in moved}
    if elsewhere:
        transaction.on_commit(partial(withdraw, elsewhere), robust=True)
    transaction.on_commit(waker.wake)
    return len(moved)


def check_move(queue: str, priority: int | None) -> None:
    """Raise ValueError if no run can be moved there."""
    if queue and queue not in declared_queues():
        raise ValueError(f"There is no queue {queue!r:.100}.")
    if not queue and priority is None:
        raise ValueError("Give a queue, a priority or both.")
    check_priority("move", priority)


def moved_to(queue: str, priority: int | None) -> str:
    """Return where runs are moved to, in words."""
    return ", ".join([*([queue] if queue else []), *([f"priority {priority}"] if priority is not None else [])])


def _lane_of(run: TaskRun, queue: str = "") -> str | None:
    try:
        return lane_of(current_app.tasks.get(run.name), queue or run.queue, *run.arguments)
    except Exception as error:  # the key is the task's own function
        raise NotPossible(no_lane(error)) from error


def no_lane(error: Exception) -> str:
    """Return the words for a run whose lane cannot be found, because of the error."""
    return f"The key of its limit cannot be found: {carried(error):.300}"


def run_discard(*, run: TaskRun, user: Any) -> None:
    """Discard a dead letter: delete it and its attempts. Raises NotPossible for a run that is not dead."""
    with transaction.atomic():
        if not EndedRun.objects.select_for_update().only("id").filter(pk=run.pk, status=Status.DEAD).first():
            raise NotPossible("Only a dead letter can be discarded.")
        end_hooks.tell_row(runs.as_ended(run.pk), outcome=end_hooks.Outcome.DISCARDED)
        history.delete_runs([run.pk])
        record(user, run, DELETION, f"discarded {run.name}: {run.error_type} {run.error}")


def pause(*, kind: str, name: str, user: Any, key: Any = None) -> Pause:
    """Pause a queue, a task or a key of a task: no run of it starts from now on. What runs goes on, and what is called
    is stored.

    ``kind`` is a `PauseTarget`. ``key`` is the value of the task's ``key``, which may be None. Raises NotPossible if
    there is no such queue, task or key, or if it is paused already.
    """
    if kind == PauseTarget.QUEUE:
        names: Any = declared_queues()
    elif kind in (PauseTarget.TASK, PauseTarget.KEY):
        names = current_app.tasks
    else:
        raise NotPossible("Only a queue, a task or a key of a task can be paused.")
    if name not in names:
        raise NotPossible(f"There is no {'queue' if kind == PauseTarget.QUEUE else 'task'} {name:.255}.")
    if kind == PauseTarget.TASK and not getattr(names[name], "durable", True):
        raise NotPossible(f"Calls of the task {name} are not stored (durable=False), so they cannot wait.")
    lane = _lane_of_key(names[name], key) if kind == PauseTarget.KEY else ""
    with transaction.atomic():
        is_new = pauses.pause(kind, name, getattr(user, "pk", None), lane)
        # Somebody may have resumed it since.
        paused = Pause.objects.filter(kind=kind, name=name, lane=lane).first()
        if paused is None or not is_new:
            raise NotPossible(f"{_sentence(Pause(kind=kind, name=name, lane=lane))} is paused already.")
        record(user, paused, ADDITION, "paused")
    return paused


def _lane_of_key(task: Any, key: Any) -> str:
    if not has_limit(task) or task.key is None:
        raise NotPossible(f"The task {task.name} has no key.")
    try:
        return lane_of_key(task, key)
    except Exception as error:  # what cannot be stored as JSON can have any fault
        raise NotPossible(f"This cannot be a key: {carried(error):.300}") from error


def _sentence(paused: Pause) -> str:
    text = str(paused)
    return text[0].upper() + text[1:]


def resume(*, kind: str, name: str, user: Any, key: Any = None) -> None:
    """End the pause of a queue, a task or a key. What waits starts at once. Raises NotPossible if it is not paused."""
    # Postgres refuses a NUL, which somebody may type.
    kind, name, lane = carried(kind), carried(name), ""
    if kind == PauseTarget.KEY:
        task = current_app.tasks.get(name)
        if task is None:
            raise NotPossible(f"There is no task {name:.255}.")
        lane = _lane_of_key(task, key)
    paused = Pause.objects.filter(kind=kind, name=name, lane=lane).first()
    if paused is None:
        raise NotPossible(f"{_sentence(Pause(kind=kind[:20], name=name[:255], lane=lane))} is not paused.")
    pause_end(pause=paused, user=user)


def pause_end(*, pause: Pause, user: Any) -> None:
    """End a pause, also one of a task or key that the code does not have any more. Raises NotPossible if it is over."""
    with transaction.atomic():
        paused = Pause.objects.filter(pk=pause.pk).first()
        if paused is None or not pauses.resume(paused.kind, paused.name, paused.lane):
            raise NotPossible(f"{_sentence(pause)} is not paused.")
        record(user, paused, DELETION, "resumed")
        transaction.on_commit(waker.wake)


def limit_set(
    *,
    kind: str,
    name: str,
    user: Any,
    concurrency: int | EllipsisType | None = ...,
    rate: str | EllipsisType | None = ...,
) -> Limit:
    """Put a limit in force in place of the code's: so many runs at once, and a rate such as ``"100/m"``.

    None is no limit. What is not given stays as it is. The limit stays in force through deploys until `limit_reset`.
    Raises ValueError for what cannot be a limit, and NotPossible if no code has a limit of this task or queue.
    """
    if concurrency is ... and rate is ...:
        raise ValueError("Give concurrency, rate or both.")
    if not (concurrency is None or concurrency is ... or (type(concurrency) is int and 1 <= concurrency <= MOST)):
        raise ValueError(f"concurrency={shown(concurrency)} is not a whole number from 1 to {MOST}")
    count, period = (None, None) if rate is None or rate is ... else parsed_rate(rate)
    kind, name = carried(kind), carried(name)
    with transaction.atomic():
        # Locked, because two may change a part of it at the same time.
        limit = Limit.objects.select_for_update().filter(kind=kind, name=name).first()
        if limit is None:
            raise NotPossible(f"The code has no limit of a {kind:.20} {name:.255}.")
        if concurrency is not ...:
            limit.concurrency = concurrency
        if rate is not ...:
            limit.rate, limit.period = count, period
        limits.set_limit(
            limits.Limit(kind, name, limit.concurrency, limit.rate, limit.period), getattr(user, "pk", None)
        )
        limit.refresh_from_db()
        record(user, limit, CHANGE, f"set to {limit.in_force}")
        transaction.on_commit(waker.wake)
    return limit


def limit_reset(*, kind: str, name: str, user: Any) -> None:
    """Put the code's limit in force again. Raises NotPossible if no operator has set another."""
    kind, name = carried(kind), carried(name)
    with transaction.atomic():
        if not limits.reset_limit(kind, name):
            raise NotPossible(f"The limit of the {kind:.20} {name:.255} is that of the code.")
        limit = Limit.objects.get(kind=kind, name=name)
        record(user, limit, CHANGE, f"reset to {limit.in_force}")
        transaction.on_commit(waker.wake)


def record(user: Any, row: TaskRun | Pause | Limit | BulkAction, action: int, message: str) -> None:
    """Write who did what into the admin's log, if ``user`` is somebody."""
    if user is not None and user.pk is not None:
        LogEntry.objects.log_actions(user.pk, [row], action, change_message=message, single_object=True)
