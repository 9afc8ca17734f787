"""The overview page and the workers page."""

from __future__ import annotations

import datetime
from collections import defaultdict
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from pressroom.conf import declared_queues
from pressroom.models import Status, TaskRun, Undeliverable, Worker
from pressroom.monitoring.queue_stats import CAP, read_ledger
from pressroom.operations import charts, figures
from pressroom.operations.pages import page, recorded, render
from pressroom.operations.templatetags.operations import duration

LEFT = 20
"""How many stopped workers the page shows."""


@page
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the queues as they are now, and the last hour."""
    hour = figures.last_hour()
    ledger = read_ledger()
    clock = [timezone.localtime(minute.at).strftime("%H:%M") for minute in hour]
    p50, p95 = charts.lines([minute.wait_p50 for minute in hour], [minute.wait_p95 for minute in hour])
    return render(
        request,
        "overview",
        "Operations",
        queues=[
            {"queue": declared_queues()[name], "now": now, "is_late": now.oldest > declared_queues()[name].max_wait}
            for name, now in ledger.queues.items()
        ],
        ticks=sorted(ledger.tick_ages.items()),
        hour=hour,
        sample=figures.SAMPLE,
        succeeded=sum(minute.succeeded for minute in hour),
        dead=sum(minute.dead for minute in hour),
        throughput=charts.bars(
            [minute.succeeded for minute in hour],
            [f"{at} {minute.succeeded:,} succeeded" for at, minute in zip(clock, hour, strict=True)],
        ),
        failures=charts.bars(
            [minute.dead for minute in hour],
            [f"{at} {minute.dead:,} dead" for at, minute in zip(clock, hour, strict=True)],
        ),
        p50=p50,
        p95=p95,
        longest_wait=duration(p95.top) if p95.lines else "–",
        undeliverable=Undeliverable.objects.exists(),
        log=recorded()[:10],
    )


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
