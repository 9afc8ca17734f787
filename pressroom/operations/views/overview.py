"""The overview page."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from pressroom.checks import our_tasks
from pressroom.conf import declared_queues
from pressroom.models import Limit, Pause, PauseTarget, Undeliverable
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.operations import charts
from pressroom.operations.pages import page, recorded, render
from pressroom.operations.past import SPANS, Span, past
from pressroom.operations.templatetags.operations import duration
from pressroom.text import zoned

FIRST_SPAN = "1h"
MOST_PAUSES = 200
"""How many paused tasks and keys the page shows."""


@page
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the queues as they are now, and what ended in the last hour, day or week."""
    span = SPANS.get(request.GET.get("span", FIRST_SPAN))
    if span is None:
        raise BadRequest("Unknown span.")
    ledger, declared = read_ledger(), declared_queues()
    pauses = Pause.objects.select_related("by").order_by("name", "lane")
    paused_queues = {pause.name: pause for pause in pauses.filter(kind=PauseTarget.QUEUE)}
    # A queue that is not declared any more has no row above.
    others = list(pauses.exclude(kind=PauseTarget.QUEUE, name__in=list(ledger.queues))[: MOST_PAUSES + 1])
    return render(
        request,
        "overview",
        "Operations",
        queues=[
            {
                "queue": declared[name],
                "now": now,
                "is_late": now.oldest > declared[name].max_wait,
                "pause": paused_queues.get(name),
            }
            for name, now in ledger.queues.items()
        ],
        paused_tasks=others[:MOST_PAUSES],
        more_pauses=len(others) > MOST_PAUSES,
        limits=Limit.objects.select_related("set_by")
        .exclude(concurrency=None, rate=None, code_concurrency=None, code_rate=None, set_at=None)
        .order_by("kind", "name"),
        task_names=[task.name for task in our_tasks()],
        ticks=sorted(ledger.tick_ages.items()),
        undeliverable=Undeliverable.objects.exists(),
        log=recorded()[:10],
        **_past(span),
    )


def _past(span: Span) -> dict[str, Any]:
    shown = past(span)
    times = [zoned(step.at, "minute") for step in shown.steps]
    p50, p95, p99 = charts.lines(
        [step.wait.p50 for step in shown.steps],
        [step.wait.p95 for step in shown.steps],
        [step.wait.p99 for step in shown.steps],
    )
    return {
        "spans": SPANS.values(),
        "past": shown,
        "succeeded": sum(step.succeeded for step in shown.steps),
        "dead": sum(step.dead for step in shown.steps),
        "throughput": charts.bars(
            [step.succeeded for step in shown.steps],
            [f"{at}: {step.succeeded:,} succeeded" for at, step in zip(times, shown.steps, strict=True)],
        ),
        "failures": charts.bars(
            [step.dead for step in shown.steps],
            [f"{at}: {step.dead:,} dead" for at, step in zip(times, shown.steps, strict=True)],
        ),
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "longest_wait": duration(p99.top) if p99.lines else "–",
    }
