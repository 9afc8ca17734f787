"""What has ended is kept for a time by its status, and then deleted in small batches, whatever else goes on."""

from __future__ import annotations

import datetime
import uuid

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from app.taskruns.ids import uuid7_at
from app.taskruns.models import Status, StoredResult, TaskGroup, TaskRun, Undeliverable, Worker

BATCH = 1_000
FIRST = uuid.UUID(int=0)


def prune() -> int:
    """Delete what is past its time. Returns how many runs; each batch is a transaction of its own, safe to repeat."""
    now = timezone.now()
    days = settings.TASKRUNS_RETENTION
    longest = now - datetime.timedelta(days=max(days.values()))
    pruned = sum(_prune_runs(status, now - datetime.timedelta(days=days[status])) for status in sorted(days))
    results = now - datetime.timedelta(days=days[Status.SUCCEEDED])
    _in_batches(StoredResult, Q(stored_at__lt=results))
    # One that has not called its body may wait for a part that is due much later.
    _in_batches(TaskGroup, Q(created_at__lt=results, fired=True) | Q(created_at__lt=longest))
    _in_batches(Undeliverable, Q(received_at__lt=longest))
    _in_batches(Worker, Q(dead_at__lt=longest))
    return pruned


def _prune_runs(status: str, before: datetime.datetime) -> int:
    """Walks the primary key, which is ordered by creation: no index has to be kept for this."""
    ended = TaskRun.objects.filter(status=status, finished_at__lt=before, pk__lt=uuid7_at(before)).order_by("pk")
    position, pruned = FIRST, 0
    while batch := list(ended.filter(pk__gt=position).values_list("pk", flat=True)[:BATCH]):
        # Their keys alone are loaded: a body or a result may be long.
        past = TaskRun.objects.filter(pk__in=batch, status=status).only("pk")
        pruned += past.delete()[1].get("taskruns.TaskRun", 0)
        position = batch[-1]
    return pruned


def _in_batches(model: type[StoredResult | TaskGroup | Undeliverable | Worker], past: Q) -> None:
    while batch := list(model.objects.filter(past).order_by("pk").only("pk")[:BATCH]):
        model.objects.filter(pk__in=[row.pk for row in batch]).only("pk").delete()
