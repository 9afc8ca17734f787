"""The page of dead letters."""

from __future__ import annotations

import dataclasses

from django.core.exceptions import BadRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from pressroom.monitoring.queue_stats import CAP
from pressroom.operations.forms import DeadLetterForm
from pressroom.operations.pages import page, render
from pressroom.operations.search import find
from pressroom.operations.views.run_table import listed


@dataclasses.dataclass(frozen=True)
class DeadGroup:
    """The dead letters of one task with one type of error."""

    queue: str
    name: str
    error_type: str
    count: int


def dead_groups() -> list[DeadGroup]:
    """Return the newest CAP dead letters, grouped by task and error, the largest group first."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT queue, name, error_type, count(*) FROM (
                SELECT queue, name, error_type FROM taskruns_endedrun WHERE status = 'dead'
                ORDER BY id DESC LIMIT {CAP}
            ) dead GROUP BY queue, name, error_type ORDER BY count(*) DESC, name, error_type
            """
        )
        return [DeadGroup(*row) for row in cursor.fetchall()]


@page
@require_safe
def dead_letters(request: HttpRequest) -> HttpResponse:
    """Show the dead letters, grouped by task and error."""
    form = DeadLetterForm(request.GET)
    if not form.is_valid():
        raise BadRequest("The filter is not valid.")
    groups = dead_groups()
    chosen = {name: form.cleaned_data[name] for name in ("queue", "name", "error_type")}
    return render(
        request,
        "dead_letters",
        "Dead letters",
        groups=[
            {"group": group, "is_chosen": dataclasses.asdict(group) | chosen == dataclasses.asdict(group)}
            for group in groups
        ],
        is_chosen=any(chosen.values()),
        chosen=chosen,
        total=sum(group.count for group in groups),
        **listed(request, find(form.wanted(), before=form.cleaned_data["before"])),
    )
