"""The schedules page and its actions."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST, require_safe
from django_celery_beat.models import PeriodicTask

from pressroom.operations import schedules as services
from pressroom.operations.pages import action, page, render
from pressroom.operator_actions import NotPossible

ACTIONS = {
    "run-now": (services.schedule_run_now, "is run now"),
    "pause": (services.schedule_pause, "is paused"),
    "resume": (services.schedule_resume, "is resumed"),
}


@page
@require_safe
def schedules(request: HttpRequest) -> HttpResponse:
    """Show the last and the next run of each schedule."""
    return render(request, "schedules", "Schedules", schedules=services.schedules())


@action
@require_POST
def act(request: HttpRequest, pk: int) -> HttpResponse:
    """Run, pause or resume a schedule, and return to the list."""
    # Load only these columns, so that a broken row can still be paused.
    row = get_object_or_404(PeriodicTask.objects.only("name", "task"), pk=pk)
    try:
        service, done = ACTIONS[request.POST.get("action", "")]
    except KeyError:
        raise BadRequest("Unknown action.") from None
    try:
        service(row=row, user=request.user)
    except NotPossible as error:
        messages.error(request, f"{row.name}: {error}")
    else:
        messages.success(request, f"{row.name} {done}.")
    return redirect("operations:schedules")
