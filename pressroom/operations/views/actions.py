"""The actions on one or many runs: run again, cancel, discard."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from pressroom import operator_actions
from pressroom.models import TaskRun
from pressroom.operations.forms import DeadLetterForm
from pressroom.operations.pages import action, render
from pressroom.operations.search import find

MOST_AT_ONCE = 500
"""The largest number of runs that one request acts on. Each takes a transaction of some milliseconds."""


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
