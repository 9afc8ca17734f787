"""The action that pauses and resumes queues and tasks. The overview shows what is paused."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from pressroom import operator_actions
from pressroom.operations.pages import action
from pressroom.text import carried

ACTIONS = {"pause": (operator_actions.pause, "is paused"), "resume": (operator_actions.resume, "is resumed")}


@action
@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Pause or resume a queue or a task, and return to the overview."""
    try:
        service, done = ACTIONS[request.POST.get("action", "")]
    except KeyError:
        raise BadRequest("Unknown action.") from None
    kind, name = (carried(request.POST.get(field, "")) for field in ("kind", "name"))
    try:
        service(kind=kind, name=name, user=request.user)
    except operator_actions.NotPossible as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"The {kind} {name} {done}.")
    return redirect("operations:overview")
