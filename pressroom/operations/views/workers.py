"""The page of workers."""

from __future__ import annotations

import datetime
from collections import defaultdict
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from pressroom.models import Status, TaskRun, Worker
from pressroom.monitoring.queue_stats import CAP
from pressroom.operations.pages import page, render

LEFT = 20
"""How many stopped workers the page shows."""


@page
@require_safe
def workers(request: HttpRequest) -> HttpResponse:
    """Show the live workers with their runs, and the latest workers that have stopped."""
    now = timezone.now()
    alive = list(Worker.objects.filter(dead_at=None).order_by("name", "id"))
    running: dict[int, list[TaskRun]] = defaultdict(list)
    of_these = TaskRun.objects.filter(status=Status.RUNNING, worker_id__in=[worker.pk for worker in alive])
    for run in of_these.only("id", "name", "queue", "started_at", "worker_id").order_by("started_at")[:CAP]:
        assert run.worker_id is not None
        running[run.worker_id].append(run)
    shown: list[dict[str, Any]] = [
        {"worker": worker, "state": _state(worker, now), "running": running[worker.pk]} for worker in alive
    ]
    left = Worker.objects.exclude(dead_at=None).order_by("-id")[:LEFT]
    return render(
        request,
        "workers",
        "Workers",
        alive=shown,
        busy=sum(len(runs) for runs in running.values()),
        slots=sum(worker.slots for worker in alive),
        left=[{"worker": worker, "state": _state(worker, now)} for worker in left],
    )


def _state(worker: Worker, now: datetime.datetime) -> str:
    if worker.dead_at is not None:
        return "lost" if worker.lost else "drained"
    if (now - worker.heartbeat_at).total_seconds() > settings.TASKRUNS_SILENCE:
        return "silent"
    return "draining" if worker.stopping_at is not None else "alive"
