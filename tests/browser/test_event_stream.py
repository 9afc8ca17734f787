"""A report's progress as a page of the site follows it: by the browser's own EventSource, signed in by cookie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.dataset import Dataset, order_report

pytestmark = pytest.mark.xdist_group("browser")

WATCH = """(url) => new Promise((resolve, reject) => {
    const seen = [], source = new EventSource(url);
    for (const kind of ["status", "progress"])
        source.addEventListener(kind, (event) => {
            const task = JSON.parse(event.data);
            seen.push({kind, id: event.lastEventId, status: task.status, name: task.name, progress: task.progress});
            if (task.finished_at) { source.close(); resolve(seen); }
        });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) reject(new Error("given up")); };
})"""


def test_a_report_is_followed_to_its_end(dataset: Dataset, opened: Callable[..., Page]) -> None:
    dataset.stack.worker("-Q", "reports", "-n", "worker-stream@%h", "-c", "1")
    page = opened("")
    report = order_report(dataset.root)
    seen = page.evaluate(WATCH, f"/api/tasks/{report.pk}/")
    assert seen[-1]["status"] == "succeeded"
    assert seen[-1]["progress"]["current"] == seen[-1]["progress"]["total"]
    assert {event["name"] for event in seen} == {"app.reports.tasks.build_report"}
    steps = [event["progress"]["current"] or 0 for event in seen]
    assert steps == sorted(steps)
