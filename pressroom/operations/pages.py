"""What all operations pages share: permissions, the admin's frame, and updates of the live part."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django_celery_beat.models import PeriodicTask

from pressroom.http.permissions import may_operate, may_view
from pressroom.models import BulkAction, Limit, Pause, TaskRun, Undeliverable
from pressroom.operations.notices import notices
from pressroom.operations.shown import Page

FRAGMENT = "X-Fragment"
"""The header with which a page's script asks for only the live part."""

View = Callable[..., HttpResponse]


def page(view: View, is_allowed: Callable[[Any], bool] = may_view) -> View:
    """Restrict a view to staff with the permission to view.

    A visitor who is not signed in is redirected to sign in. Others get 403.
    """

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not is_allowed(request.user):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(guarded)


def action(view: View) -> View:
    """Restrict a view to staff with the permission to operate."""
    return page(view, may_operate)


def render(request: HttpRequest, name: str, title: str, **context: Any) -> HttpResponse:
    """Return the page ``name`` in the admin's frame, or only its live part if the request asks for that."""
    context |= {
        "may_operate": may_operate(request.user),
        "title": title,
        "page": name,
        "live": f"operations/_{name}.html",
        "notices": notices(),
    }
    if FRAGMENT in request.headers:
        return Page(request, "operations/fragment.html", context)
    return Page(request, f"operations/{name}.html", {**admin.site.each_context(request), **context})


def recorded(**fields: Any) -> Any:
    """Return the log entries on runs, actions, pauses, limits, messages and schedules, newest first."""
    from django.contrib.contenttypes.models import ContentType

    types = ContentType.objects.get_for_models(
        TaskRun, BulkAction, Pause, Limit, Undeliverable, PeriodicTask
    ).values()  # fmt: skip
    return (
        LogEntry.objects.filter(content_type__in=list(types), **fields)
        .select_related("user", "content_type")
        .order_by("-id")
    )
