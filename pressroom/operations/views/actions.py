"""The actions on one run, on selected runs, and on all runs that match a filter."""

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
from pressroom.bulk import orders
from pressroom.bulk.kinds import KINDS, Kind
from pressroom.models import BulkAction, TaskRun
from pressroom.operations.forms import DeadLetterForm, MoveForm, SearchForm
from pressroom.operations.pages import action, render

MOST_AT_ONCE = 500
"""The largest number of selected runs that one request acts on. Each takes a transaction of some milliseconds."""
SERVICES: dict[str, Callable[..., Any]] = {
    BulkAction.Kind.CANCEL: operator_actions.run_cancel,
    BulkAction.Kind.RUN_AGAIN: operator_actions.run_again,
    BulkAction.Kind.RUN_NOW: operator_actions.run_now,
    BulkAction.Kind.MOVE: operator_actions.run_move,
    BulkAction.Kind.DISCARD: operator_actions.run_discard,
}
LISTS: dict[str, type[SearchForm | DeadLetterForm]] = {"tasks": SearchForm, "dead_letters": DeadLetterForm}
"""The lists with a filter: the name of the page, and its form."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    name: str
    kind: Kind
    back: str
    """Where the visitor came from."""
    move: MoveForm | None
    """Where to move to, if that is asked for."""
    is_confirmed: bool

    @property
    def target(self) -> dict[str, Any]:
        """The queue and the priority to which runs are moved."""
        return self.move.target() if self.move is not None else {}


@action
@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Act on runs. Ask for confirmation if there is more than one, or before a discard or a move."""
    asked = _asked(request)
    if "all" in request.POST:
        return _act_on_all(request, asked)
    pks, more = _selected(request)
    if not pks:
        messages.warning(request, "Nothing was selected.")
        return redirect(asked.back)
    is_discard = asked.name == BulkAction.Kind.DISCARD
    if not asked.is_confirmed and (len(pks) > 1 or is_discard or asked.move is not None):
        runs = TaskRun.objects.filter(pk__in=pks).only("name", "status", "queue", "error_type")
        kinds = Counter((run.name, run.queue, run.status, run.error_type) for run in runs)
        return render(
            request, "confirm", f"{asked.kind.label}?", asked=asked, pks=pks, more=more, kinds=kinds.most_common(),
            most=MOST_AT_ONCE,
        )  # fmt: skip
    _act(request, asked, pks)
    return redirect(reverse("operations:dead_letters") if is_discard and str(pks[0]) in asked.back else asked.back)


def _asked(request: HttpRequest) -> Asked:
    name = request.POST.get("action", "")
    if name not in SERVICES:
        raise BadRequest("Unknown action.")
    back = request.POST.get("back", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = reverse("operations:tasks")
    is_confirmed = "confirmed" in request.POST
    move = MoveForm(request.POST if is_confirmed else None) if name == BulkAction.Kind.MOVE else None
    return Asked(name, KINDS[BulkAction.Kind(name)], back, move, is_confirmed and (move is None or move.is_valid()))


def _selected(request: HttpRequest) -> tuple[list[UUID], bool]:
    """Return the selected runs, at most MOST_AT_ONCE, and whether there are more."""
    try:
        pks = [UUID(pk) for pk in request.POST.getlist("run")]
    except ValueError:
        raise BadRequest("A run's id is not valid.") from None
    return pks[:MOST_AT_ONCE], len(pks) > MOST_AT_ONCE


def _act(request: HttpRequest, asked: Asked, pks: list[UUID]) -> None:
    done, refused = 0, Counter[str]()
    # One row at a time, because a row may be large.
    for pk in pks:
        try:
            run = TaskRun.objects.only("name", "status", "error_type", "error").get(pk=pk)
            SERVICES[asked.name](run=run, user=request.user, **asked.target)
            done += 1
        except TaskRun.DoesNotExist:
            refused["The run no longer exists."] += 1
        except operator_actions.NotPossible as error:
            refused[str(error)] += 1
    if done:
        messages.success(request, f"{done:,} {'task' if done == 1 else 'tasks'} {asked.kind.done}.")
    for reason, number in refused.most_common():
        messages.warning(request, f"{number:,} skipped: {reason}")


def _act_on_all(request: HttpRequest, asked: Asked) -> HttpResponse:
    """Order the action for all that match the filter. The relay carries it out, and its page shows the progress."""
    of = request.POST.get("of", "")
    if of not in LISTS:
        raise BadRequest("Unknown list.")
    form = LISTS[of](request.POST)
    if not form.is_valid():
        raise BadRequest("The filter is not valid.")
    wanted = form.wanted()
    if not asked.is_confirmed:
        count, more = orders.estimate(asked.name, wanted)
        return render(
            request, "confirm", f"{asked.kind.label} all that match?", asked=asked, count=count, is_at_least=more,
            of=of, filters={name: form.data[name] for name in form.fields if form.data.get(name)},
            conditions=orders.conditions(wanted.to_json()),
        )  # fmt: skip
    try:
        ordered = orders.order(kind=asked.name, wanted=wanted, user=request.user, **asked.target)
    except (operator_actions.NotPossible, ValueError) as error:
        messages.error(request, str(error))
        return redirect(asked.back)
    return redirect("operations:bulk_action", ordered.pk)
