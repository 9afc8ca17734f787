"""The list of the actions on all runs that match a filter, and the page of one with its progress."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST, require_safe

from pressroom.bulk import orders
from pressroom.models import BulkAction
from pressroom.operations.pages import action, page, recorded, render
from pressroom.operator_actions import NotPossible

LATEST = 50
"""How many actions the list shows."""


@page
@require_safe
def bulk_actions(request: HttpRequest) -> HttpResponse:
    """Show the latest actions."""
    latest = BulkAction.objects.select_related("by")[:LATEST]
    return render(
        request,
        "bulk_actions",
        "Actions",
        actions=[{"action": one, "words": orders.in_words(one)} for one in latest],
    )


@page
@require_safe
def bulk_action(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an action with its progress."""
    # A key that Postgres's integers do not have is of no action.
    one = get_object_or_404(BulkAction.objects.select_related("by"), pk=min(pk, 2**63 - 1))
    return render(
        request,
        "bulk_action",
        orders.in_words(one),
        one=one,
        conditions=orders.conditions(one.filter),
        log=recorded(object_id=str(one.pk))[:20],
        every=2,
    )


@action
@require_POST
def stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop an action, and return to its page."""
    one = get_object_or_404(BulkAction, pk=min(pk, 2**63 - 1))
    try:
        orders.stop(action=one, user=request.user)
    except NotPossible as error:
        messages.error(request, str(error))
    return redirect("operations:bulk_action", one.pk)
