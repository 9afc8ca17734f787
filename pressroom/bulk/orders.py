"""Order a bulk action, stop it, and tell how many runs it would meet."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE
from django.db import connection, transaction
from django.db.models.functions import Now

from pressroom.bulk.kinds import KINDS
from pressroom.models import LIVE, BulkAction
from pressroom.operator_actions import NotPossible, check_move, moved_to, record
from pressroom.sql.run_filter import Looked, RunFilter
from pressroom.text import shown
from pressroom.uuid7 import uuid7_at

LOCK = 482804169575
"""The key of the lock with which two orders exclude each other."""
MOST_OPEN = 20
"""How many bulk actions may be under way."""
COUNTED, COUNTED_SLOWLY = 150_000, 25_000
"""Rows that `estimate` looks through: of live runs, and where each row costs more.

Ended runs of a rare status are far apart, and a condition on the call's message reads another table.
"""
CLOCKS = datetime.timedelta(hours=1)
"""How far the clock of a process that calls may be ahead of the database's. Keys are made with its clock."""


def order(
    *, kind: str, wanted: RunFilter, user: Any, queue: str = "", priority: int | None = None, most_own: int = MOST_OPEN
) -> BulkAction:
    """Have the relay do ``kind`` with all runs that match now. ``user`` may be None.

    ``queue`` and ``priority`` say where ``move`` moves to. ``most_own`` is how many of the user's may be under way.
    Raises ValueError for what cannot be done at all, and NotPossible if the same action, or too many others, are under
    way.
    """
    check(kind, queue, priority)
    if not wanted.statuses(KINDS[BulkAction.Kind(kind)].statuses):
        possible = ", ".join(KINDS[BulkAction.Kind(kind)].statuses)
        raise ValueError(f"This action changes only runs that are {possible}. The filter matches others.")
    fields = {"kind": kind, "filter": wanted.to_json(), "queue": queue, "priority": priority}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        under_way = BulkAction.objects.filter(ended_at=None)
        if same := under_way.filter(**fields).first():
            raise NotPossible(f"The same action is under way, as number {same.pk}.")
        if under_way.count() >= MOST_OPEN:
            raise NotPossible(f"{MOST_OPEN} actions are under way. Wait until one has ended.")
        if user is not None and under_way.filter(by=user.pk).count() >= most_own:
            raise NotPossible(f"{most_own} actions of yours are under way. Wait until one has ended.")
        made = BulkAction.objects.create(**fields, by_id=getattr(user, "pk", None), ordered_at=Now(), worked_at=Now())
        made.refresh_from_db()
        record(user, made, ADDITION, f"ordered: {in_words(made)}")
    return made


def check(kind: str, queue: str = "", priority: int | None = None) -> None:
    """Raise ValueError if there is no such action."""
    if kind not in KINDS:
        raise ValueError(f"There is no action {kind!r:.100}.")
    if kind != BulkAction.Kind.MOVE:
        if queue or priority is not None:
            raise ValueError("Only moving takes a queue and a priority.")
        return
    check_move(queue, priority)


def stop(*, action: BulkAction, user: Any) -> None:
    """Stop a bulk action. What it has done stays done. Raises NotPossible if it has ended."""
    with transaction.atomic():
        # Waits for the batch that is being done.
        if not BulkAction.objects.select_for_update().filter(pk=action.pk, ended_at=None).exists():
            raise NotPossible("The action has already ended.")
        BulkAction.objects.filter(pk=action.pk).update(state=BulkAction.State.CANCELLED, ended_at=Now())
        action.refresh_from_db()
        record(user, action, CHANGE, f"stopped: {action.summary}")


def looked(action: BulkAction, most: int) -> Looked:
    """Look for the runs that the action has yet to meet, through at most ``most`` rows for each index."""
    also, values = KINDS[BulkAction.Kind(action.kind)].also(action)
    return Looked(
        RunFilter.from_json(action.filter),
        most,
        action.position or uuid7_at(action.ordered_at + CLOCKS),
        KINDS[BulkAction.Kind(action.kind)].statuses,
        f"created_at <= %s AND (finished_at IS NULL OR finished_at <= %s) AND {also}",
        [action.ordered_at, action.ordered_at, *values],
        action.ordered_at if action.pk else None,
    )


def estimate(kind: str, wanted: RunFilter, queue: str = "", priority: int | None = None) -> tuple[int, bool]:
    """Return how many runs an action would meet now, and whether there may be more."""
    now = datetime.datetime.now(datetime.UTC) + CLOCKS
    action = BulkAction(kind=kind, filter=wanted.to_json(), queue=queue, priority=priority, ordered_at=now)
    is_slow = wanted.text or wanted.key or not set(KINDS[BulkAction.Kind(kind)].statuses) <= set(LIVE)
    found = looked(action, COUNTED_SLOWLY if is_slow else COUNTED)
    return found.count(), found.end is not None


def in_words(action: BulkAction) -> str:
    """Return what the action does, and with which runs."""
    to = moved_to(action.queue, action.priority)
    kind = KINDS.get(action.kind)  # type: ignore[call-overload]  # a later release may have others
    return f"{kind.label if kind else action.kind}{to and f' to {to}'}: {conditions(action.filter)}"


def conditions(wanted: Any) -> str:
    """Return the conditions of a filter, as `RunFilter.to_json` returned it, in words: a line for a page.

    A later release may have written another one.
    """
    if not isinstance(wanted, dict):
        return shown(wanted)
    names = {"names": "task", "error_type": "error", "text": "argument", "owner_id": "owner", "key": "id"}
    parts = []
    for name, value in wanted.items():
        listed = value if isinstance(value, list) else [value]
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        parts.append(f"{names.get(name, name)} {', '.join(map(str, listed[:3]))}{more}"[:200])
    return "; ".join(parts) or "all"
