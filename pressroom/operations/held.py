"""Why a waiting run does not start, in words."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from pressroom.models import WAITING, Held, Limit, LiveRun, Pause, PauseTarget, Target, TaskRun
from pressroom.models.flow_control import key_text
from pressroom.sql.run_filter import HELD, LATER
from pressroom.text import zoned


def standing(run: Any) -> str:
    """Return the status of a run of a list, or what says more: ``later``, ``held`` or ``paused``."""
    if run.status not in WAITING:
        return str(run.status)
    if run.held == Held.PAUSED:
        return "paused"
    if run.run_at > timezone.now():
        return LATER if run.status == WAITING[0] else str(run.status)
    return HELD if run.held is not None else str(run.status)


def waits_for(run: TaskRun) -> list[str]:
    """Return the pauses, or else the limits, that hold a due run back; none for other runs."""
    live = LiveRun.objects.filter(pk=run.pk, held__isnull=False).only("held", "lane", "run_at").first()
    if live is None:
        return []
    targets = ((Target.QUEUE, run.queue), (Target.TASK, run.name))
    pauses = [
        f"the {pause.kind} is paused since {zoned(pause.since)}" + (f" by {pause.by}" if pause.by else "")
        for kind, name, lane in ((*targets[0], ""), (*targets[1], ""), (PauseTarget.KEY, run.name, live.lane))
        for pause in Pause.objects.select_related("by").filter(kind=kind, name=name, lane=lane)
    ]
    if pauses or live.lane is None or live.run_at > timezone.now():
        return pauses
    key = key_text(live.lane)
    return [
        f"the limit of the {limit.kind}: {limit.in_force}" + (_of_key(key) if kind == Target.TASK else "")
        for kind, name in targets
        for limit in Limit.objects.filter(kind=kind, name=name)
        if limit.concurrency is not None or limit.rate is not None
    ]


def _of_key(key: str) -> str:
    if not key:
        return ""
    return f", for the key {key}"
