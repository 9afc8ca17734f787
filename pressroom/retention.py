"""Retention: ended runs are kept for a time that depends on their status.

The partition of a day is dropped once its successes are past their time. Other rows are deleted in small batches.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Model, Q
from django.utils import timezone

from pressroom.database.errors import is_no_answer
from pressroom.models import (
    BulkAction,
    EndedRun,
    SkippedTick,
    Status,
    StoredResult,
    TaskGroup,
    Undeliverable,
    UniqueCall,
    Worker,
)
from pressroom.sql import history
from pressroom.uuid7 import uuid7_at

logger = logging.getLogger(__name__)

BATCH = 1_000
"""Rows deleted in one transaction at most."""


def prune() -> int:
    """Delete what is past its retention time. Returns how many runs were deleted.

    Each batch is a transaction of its own, so this is safe to repeat.
    """
    now = timezone.now()
    days = settings.TASKRUNS_RETENTION
    longest = now - datetime.timedelta(days=max(days.values()))
    results = now - datetime.timedelta(days=days[Status.SUCCEEDED])
    _make_days(now.date())
    pruned = _drop_days(results.date(), {status: now - datetime.timedelta(days=days[status]) for status in days})
    for status in sorted(days):
        before = now - datetime.timedelta(days=days[status])
        past = Q(status=status, finished_at__lt=before, pk__lt=uuid7_at(before))
        if status == Status.SUCCEEDED and days[status] >= 1:
            # Those of a whole day go with its partition. A few were carried over because they were live then.
            past &= Q(pk__lt=history.first_day_key())
        pruned += _prune(EndedRun, past)
    _prune(StoredResult, Q(stored_at__lt=results))
    # A chord that has not called its body may wait for a part that is due much later.
    _prune(TaskGroup, Q(created_at__lt=results, fired=True) | Q(created_at__lt=longest))
    _prune(Undeliverable, Q(received_at__lt=longest))
    _prune(BulkAction, Q(ended_at__lt=longest))
    _prune(UniqueCall, Q(ends_at__lt=now))
    _prune(SkippedTick, Q(at__lt=longest))
    _prune(Worker, Q(dead_at__lt=longest))
    return pruned


def _make_days(today: datetime.date) -> None:
    """Make the next days' partitions. If that fails, the rest of `prune` goes on, and the next round tries again."""
    try:
        history.make_ahead(today)
    except DatabaseError as error:
        if is_no_answer(error):
            raise
        logger.exception("the next days' partitions cannot be made")


def _drop_days(until: datetime.date, kept: dict[str, datetime.datetime]) -> int:
    """Drop the partitions of the days before ``until``. A day that cannot be dropped now is left to the next round."""
    dropped = 0
    for day in history.days():
        if day >= until:
            break
        try:
            dropped += history.drop_day(day, kept)
        except DatabaseError as error:
            if is_no_answer(error):
                raise
            logger.warning("the partitions of %s cannot be dropped: %s", day, error)
            break
    return dropped


def _prune(model: type[Model], past: Q) -> int:
    """Delete the rows that match ``past`` and return how many. A row that cannot be deleted does not stop the rest."""
    pruned, position = 0, None
    while True:
        rows = model._default_manager.filter(past).order_by("pk")
        if position is not None:
            rows = rows.filter(pk__gt=position)
        # Load only the keys: a body or a result may be long.
        batch = list(rows.values_list("pk", flat=True)[:BATCH])
        if not batch:
            return pruned
        position = batch[-1]
        pruned += _delete(model, past, batch)


def _delete(model: type[Model], past: Q, keys: list[Any]) -> int:
    try:
        # Filter by ``past`` again: a row may have changed meanwhile.
        with transaction.atomic():
            rows = model._default_manager.filter(past, pk__in=keys).only("pk")
            if model is EndedRun:
                return history.delete_runs(list(rows.select_for_update().values_list("pk", flat=True)))
            return rows.delete()[1].get(model._meta.label, 0)
    except DatabaseError as error:
        if is_no_answer(error):
            raise
        if len(keys) > 1:
            return sum(_delete(model, past, [key]) for key in keys)
        logger.warning("%s %s cannot be deleted: %s", model._meta.label, keys[0], error)
        return 0
