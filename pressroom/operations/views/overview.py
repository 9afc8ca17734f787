"""The overview page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from pressroom.checks import our_tasks
from pressroom.conf import declared_queues
from pressroom.models import Limit, Pause, PauseTarget, Undeliverable
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.operations import charts, figures
from pressroom.operations.pages import page, recorded, render
from pressroom.operations.templatetags.operations import duration


@page
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the queues as they are now, and the last hour."""
    hour = figures.last_hour()
    ledger, declared = read_ledger(), declared_queues()
    clock = [timezone.localtime(minute.at).strftime("%H:%M") for minute in hour]
    pauses = list(Pause.objects.select_related("by").order_by("name", "lane"))
    paused_queues = {pause.name: pause for pause in pauses if pause.kind == PauseTarget.QUEUE}
    p50, p95 = charts.lines([minute.wait_p50 for minute in hour], [minute.wait_p95 for minute in hour])
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
        paused_tasks=[pause for pause in pauses if pause.kind != PauseTarget.QUEUE],
        limits=Limit.objects.select_related("set_by")
        .exclude(concurrency=None, rate=None, code_concurrency=None, code_rate=None, set_at=None)
        .order_by("kind", "name"),
        task_names=[task.name for task in our_tasks()],
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
