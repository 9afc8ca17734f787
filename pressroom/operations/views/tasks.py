"""The pages on tasks and dead letters, and the actions on one or many of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from pressroom import operator_actions
from pressroom.checks import our_tasks
from pressroom.models import LIVE, Status, TaskRun
from pressroom.monitoring.queue_stats import CAP
from pressroom.operations import figures
from pressroom.operations.family import family
from pressroom.operations.forms import DeadLetterForm, SearchForm
from pressroom.operations.pages import action, page, recorded, render
from pressroom.operations.search import Page, find
from pressroom.operations.shown import arguments_of, headers_of, request_id

MOST_AT_ONCE = 500
"""The largest number of runs that one request acts on. Each takes a transaction of some milliseconds."""
MOST_TEXT = 20_000
"""How many characters of arguments, result and traceback a page shows."""


@page
@require_safe
def tasks(request: HttpRequest) -> HttpResponse:
    """Show the newest tasks, or the results of a search."""
    form = SearchForm(request.GET, label_suffix="")
    found = find(form.wanted()) if form.is_valid() else Page([], None)
    return render(
        request,
        "tasks",
        "Tasks",
        form=form,
        is_search=any(form.data.get(name) for name in form.fields),
        names=[task.name for task in our_tasks()],
        **_listed(request, found),
    )


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
        **_listed(request, find(form.wanted())),
    )


def _listed(request: HttpRequest, found: Page) -> dict[str, Any]:
    """Return the context of the table of runs: each run, with the newest run that repeats it."""
    repeats = {
        run.retry_of_id: run
        for run in TaskRun.objects.filter(retry_of__in=[run.pk for run in found.runs])
        .only("status", "retry_of_id")
        .order_by("id")
    }
    query: QueryDict = request.GET.copy()
    query.pop("before", None)
    newest = query.urlencode()
    query["before"] = str(found.before or "")
    return {
        "rows": [{"run": run, "again": repeats.get(run.pk)} for run in found.runs],
        "looked_back_to": found.looked_back_to,
        "older": query.urlencode() if found.before else "",
        "newest": newest,
        "is_first": "before" not in request.GET,
        "here": request.get_full_path(),
    }


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
        again=run.retried_by.order_by("-id").first(),
        log=recorded(object_id=str(run.pk))[:20],
        can_cancel=run.status in LIVE,
        can_run_again=run.status in (Status.DEAD, Status.CANCELLED, Status.EXPIRED),
        can_discard=run.status == Status.DEAD,
        here=request.get_full_path(),
    )


def _cut(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… {len(text) - MOST_TEXT:,} more characters"


@dataclasses.dataclass(frozen=True)
class Action:
    """An action on runs."""

    service: Callable[..., Any]
    label: str
    done: str


ACTIONS = {
    "run-again": Action(operator_actions.run_again, "Run again", "run again"),
    "cancel": Action(operator_actions.run_cancel, "Cancel", "cancelled, or asked to stop"),
    "discard": Action(operator_actions.run_discard, "Discard", "discarded"),
}


@action
@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Run again, cancel or discard. Ask for confirmation if there is more than one run, or before a discard."""
    chosen = ACTIONS.get(request.POST.get("action", ""))
    if chosen is None:
        raise BadRequest("Unknown action.")
    back = request.POST.get("back", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = reverse("operations:tasks")
    pks, more = _chosen(request)
    if not pks:
        messages.warning(request, "Nothing was selected.")
        return redirect(back)
    if "confirmed" not in request.POST and (len(pks) > 1 or chosen.service is operator_actions.run_discard):
        runs = TaskRun.objects.filter(pk__in=pks).only("name", "status", "queue", "error_type")
        kinds = Counter((run.name, run.queue, run.status, run.error_type) for run in runs)
        return render(
            request, "confirm", f"{chosen.label}?", action=request.POST["action"], chosen=chosen, pks=pks, more=more,
            kinds=kinds.most_common(), back=back, most=MOST_AT_ONCE,
        )  # fmt: skip
    _act(request, chosen, pks)
    gone = chosen.service is operator_actions.run_discard and str(pks[0]) in back
    return redirect(reverse("operations:dead_letters") if gone else back)


def _chosen(request: HttpRequest) -> tuple[list[UUID], bool]:
    """Return the selected runs, or all dead letters that match the filter, and whether there are more.

    At most MOST_AT_ONCE runs are returned.
    """
    if "all" not in request.POST:
        try:
            pks = [UUID(pk) for pk in request.POST.getlist("run")]
        except ValueError:
            raise BadRequest("A run's id is not valid.") from None
        return pks[:MOST_AT_ONCE], len(pks) > MOST_AT_ONCE
    form = DeadLetterForm(request.POST)
    if not form.is_valid():
        raise BadRequest("The filter is not valid.")
    found = find(dataclasses.replace(form.wanted(), before=None), MOST_AT_ONCE)
    return [run.pk for run in found.runs], found.before is not None


def _act(request: HttpRequest, chosen: Action, pks: list[UUID]) -> None:
    done, refused = 0, Counter[str]()
    # One row at a time, because a row may be large.
    for pk in pks:
        try:
            chosen.service(
                run=TaskRun.objects.only("name", "status", "error_type", "error").get(pk=pk), user=request.user
            )
            done += 1
        except TaskRun.DoesNotExist:
            refused["The run no longer exists."] += 1
        except operator_actions.NotPossible as error:
            refused[str(error)] += 1
    if done:
        messages.success(request, f"{done:,} {'task' if done == 1 else 'tasks'} {chosen.done}.")
    for reason, number in refused.most_common():
        messages.warning(request, f"{number:,} skipped: {reason}")
