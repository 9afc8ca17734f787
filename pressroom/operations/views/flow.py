"""The actions that pause, resume and limit queues and tasks. The overview shows what is paused, and the limits."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from pressroom import operator_actions
from pressroom.enqueue.limits import read_key
from pressroom.models import Pause, PauseTarget
from pressroom.operations.pages import action
from pressroom.text import carried, is_carried


def _pause(request: HttpRequest, kind: str, name: str) -> str:
    key = request.POST.get("key", "").strip()
    if not is_carried(key):
        raise ValueError("The key has characters that cannot be shown. Write it as JSON.")
    if key and kind == PauseTarget.QUEUE:
        raise ValueError("A queue has no keys.")
    if not key and kind == PauseTarget.KEY:
        raise ValueError("Give the key.")
    if key and kind in (PauseTarget.TASK, PauseTarget.KEY):
        paused = operator_actions.pause(kind=PauseTarget.KEY, name=name, key=read_key(key), user=request.user)
    else:
        paused = operator_actions.pause(kind=kind, name=name, user=request.user)
    return f"Paused {paused}."


def _resume(request: HttpRequest, kind: str, name: str) -> str:
    if kind == PauseTarget.KEY:
        # Of a key that is long, only this is known.
        paused = Pause.objects.filter(pk=_number(name) or 0, kind=kind).first()
        if paused is None:
            raise operator_actions.NotPossible("The key is not paused.")
        operator_actions.pause_end(pause=paused, user=request.user)
        return f"Resumed {paused}."
    operator_actions.resume(kind=kind, name=name, user=request.user)
    return f"The {kind} {name} is resumed."


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _limit(request: HttpRequest, kind: str, name: str) -> str:
    number, rate = (carried(request.POST.get(field, "")).strip() for field in ("concurrency", "rate"))
    if number and (_number(number) is None or len(number) >= 10):
        raise ValueError(f"{number[:100]!r} is not a number of runs at once.")
    limit = operator_actions.limit_set(
        kind=kind, name=name, concurrency=int(number) if number else None, rate=rate or None, user=request.user
    )
    return f"The limit of the {kind} {name} is set: {limit.in_force}."


def _reset(request: HttpRequest, kind: str, name: str) -> str:
    operator_actions.limit_reset(kind=kind, name=name, user=request.user)
    return f"The limit of the {kind} {name} is that of the code again."


ACTIONS: dict[str, Callable[[HttpRequest, str, str], str]] = {
    "pause": _pause, "resume": _resume, "limit": _limit, "reset": _reset,
}  # fmt: skip


@action
@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Do the action with a queue or a task, and return to the overview."""
    try:
        do = ACTIONS[request.POST.get("action", "")]
    except KeyError:
        raise BadRequest("Unknown action.") from None
    kind, name = (carried(request.POST.get(field, "")) for field in ("kind", "name"))
    try:
        messages.success(request, do(request, kind, name))
    except (operator_actions.NotPossible, ValueError) as error:
        messages.error(request, str(error))
    return redirect("operations:overview")
