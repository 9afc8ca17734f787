"""The page of tasks, and the page of one run."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from pressroom.checks import our_tasks
from pressroom.models import LIVE, WAITING, Status, TaskRun
from pressroom.monitoring.queue_stats import CAP
from pressroom.operations.family import family
from pressroom.operations.forms import SearchForm
from pressroom.operations.held import waits_for
from pressroom.operations.pages import page, recorded, render
from pressroom.operations.search import Page, find
from pressroom.operations.shown import arguments_of, headers_of, request_id
from pressroom.operations.views.run_table import listed

MOST_TEXT = 20_000
"""How many characters of arguments, result and traceback a page shows."""


@page
@require_safe
def tasks(request: HttpRequest) -> HttpResponse:
    """Show the newest tasks, or the results of a search."""
    form = SearchForm(request.GET, label_suffix="")
    found = find(form.wanted(), before=form.cleaned_data["before"]) if form.is_valid() else Page([], None)
    return render(
        request,
        "tasks",
        "Tasks",
        form=form,
        is_search=any(form.data.get(name) for name in form.fields),
        names=[task.name for task in our_tasks()],
        # What a form without errors asks for, for the actions on all that match.
        filters={name: form.data[name] for name in form.fields if form.data.get(name) and name != "before"},
        **listed(request, found),
    )


@page
@require_safe
def task(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show everything about a run."""
    run = get_object_or_404(TaskRun.objects.select_related("owner", "worker"), pk=pk)
    headers = headers_of(run)
    return render(
        request,
        "task",
        run.name,
        run=run,
        headers=headers,
        request_id=request_id(headers),
        arguments=_cut(arguments_of(run)),
        result=_cut(run.result),
        traceback=_cut(run.traceback),
        attempts=list(run.attempts.all()[:CAP]),
        family=family(run),
        waits_for=waits_for(run),
        is_later=run.status in WAITING and run.run_at > timezone.now(),
        again=TaskRun.objects.filter(retry_of=run.pk).order_by("-id").first(),
        log=recorded(object_id=str(run.pk))[:20],
        can_cancel=run.status in LIVE,
        can_move=run.status in WAITING,
        can_run_again=run.status in (Status.DEAD, Status.CANCELLED, Status.EXPIRED),
        can_discard=run.status == Status.DEAD,
        here=request.get_full_path(),
    )


def _cut(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… {len(text) - MOST_TEXT:,} more characters"
