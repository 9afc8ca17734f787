"""The table of runs that several pages show."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, QueryDict

from pressroom.models import TaskRun
from pressroom.operations.search import Page


def listed(request: HttpRequest, found: Page) -> dict[str, Any]:
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
