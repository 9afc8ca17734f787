"""The test of reports in ``manage.py smoke_test``: one pod makes a file and another one serves it."""

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
from django.core.management.base import CommandError


def run(client: httpx.Client, follow: Callable[[str], None]) -> str:
    """Order a report, wait for it with ``follow(url)``, download and delete it. Returns a summary.

    Raises CommandError and httpx.HTTPError.
    """
    order = {"type": "activity", "period": f"{datetime.now(UTC):%Y-%m}", "format": "pdf"}
    ordered = client.post("/api/reports/", json=order).json()
    follow(ordered["url"])
    report = client.get(ordered["report"]).json()
    file = client.get(report["download"]).content
    client.delete(ordered["report"])
    if not file.startswith(b"%PDF-"):
        raise CommandError(f"the report is not a PDF: it begins with {file[:20]!r}")
    return f"a report of {len(file)} bytes, made by a worker"
