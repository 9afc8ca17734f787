"""The page of dead letters."""

from __future__ import annotations

import dataclasses

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from pressroom.operations import figures
from pressroom.operations.forms import DeadLetterForm
from pressroom.operations.pages import page, render
from pressroom.operations.search import find
from pressroom.operations.views.run_table import listed


@page
@require_safe
def dead_letters(request: HttpRequest) -> HttpResponse:
    """Show the dead letters, grouped by task and error."""
    form = DeadLetterForm(request.GET)
    if not form.is_valid():
        raise BadRequest("The filter is not valid.")
    groups = figures.dead_groups()
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
