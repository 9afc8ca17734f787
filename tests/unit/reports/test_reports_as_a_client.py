"""Reports as a program watches them: asked again without being sent again, removed only as they were read."""

from __future__ import annotations

from typing import Any

import pytest
import time_machine
from rest_framework.test import APIClient

from app.accounts.models import User
from app.reports.models import Report
from tests.unit.reports.test_reports import REPORTS, make, order

pytestmark = pytest.mark.django_db


def test_what_has_not_changed_is_304_though_its_link_is_a_new_one(author: User, settings: Any) -> None:
    settings.REPORT_LINK_LIFETIME = 3600
    client = APIClient()
    # A token would be of another time.
    client.force_authenticate(author)
    with time_machine.travel("2026-03-02 09:00:00+00:00") as clock:
        report = make(order(client))
        url = f"{REPORTS}{report.pk}/"
        first = client.get(url)
        clock.shift(60)
        assert client.get(url).json()["download"] != first.json()["download"]
        assert client.get(url, HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 304
        # Before the link ends, it is told anew.
        clock.shift(1800)
        again = client.get(url, HTTP_IF_NONE_MATCH=first["ETag"])
        assert again.status_code == 200
        assert again.json()["download"] != first.json()["download"]


def test_it_is_removed_only_as_it_was_read(as_author: APIClient) -> None:
    report = order(as_author)
    url = f"{REPORTS}{report.pk}/"
    before = as_author.get(url)["ETag"]
    make(report)
    assert as_author.delete(url, HTTP_IF_MATCH=before).status_code == 412
    assert Report.objects.exists()
    assert as_author.delete(url, HTTP_IF_MATCH=as_author.get(url)["ETag"]).status_code == 204


def test_its_task_says_what_it_is_about_and_lists_are_narrowed(as_author: APIClient) -> None:
    answer = as_author.post(REPORTS, {"type": "activity", "period": "2026-01", "format": "csv"}).json()
    assert answer["about"] == {"type": "report", "url": answer["report"]}
    for query, count in (("status=queued", 1), ("status=ready", 0), ("type=activity", 1), ("type=subscribers", 0)):
        assert len(as_author.get(f"{REPORTS}?{query}").json()["results"]) == count, query
