"""Pauses and limits by API, and on the operations pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from pressroom.models import Limit, Pause, TaskRun
from pressroom.sql import limits
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db
EMAILS = {"kind": "queue", "name": "emails"}


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna", "anna@example.com")


@pytest.fixture
def api(anna: User) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(anna)
    return client


@pytest.fixture
def limit() -> Limit:
    limits.sync([limits.Limit("task", "probe.effect", 2, 100, 60.0)])
    return Limit.objects.get()


def test_a_queue_is_paused_and_resumed(api: APIClient) -> None:
    made = api.post("/api/pauses/", EMAILS, format="json")
    assert made.status_code == 201
    told = made.json()
    assert made["Location"] == told["url"]
    assert (told["kind"], told["name"], told["by"]) == ("queue", "emails", "anna")
    assert api.get("/api/pauses/").json()["results"] == [told]
    again = api.get(told["url"])
    assert (again.json(), again["ETag"]) == (told, made["ETag"])
    refused = api.post("/api/pauses/", EMAILS, format="json")
    assert (refused.status_code, refused["Content-Type"]) == (409, "application/problem+json")
    assert api.delete(told["url"]).status_code == 204
    assert api.delete(told["url"]).status_code == 404
    assert not Pause.objects.exists()
    assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True)) == ["paused", "resumed"]


def test_a_repeat_with_its_key_pauses_once(api: APIClient) -> None:
    first, second = (
        api.post("/api/pauses/", {"kind": "task", "name": "probe.effect"}, format="json", HTTP_IDEMPOTENCY_KEY="one")
        for _ in range(2)
    )
    assert first.json() == second.json()
    assert second["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"kind": "queue"}, 400), ({"kind": "key", "name": "x"}, 400), ({"kind": "queue", "name": 5.5}, 409),
        ({"kind": "queue", "name": "no"}, 409), ({"kind": "task", "name": "emails"}, 409), ([], 400),
        ({"kind": "queue", "name": "\x00"}, 400), ({"kind": "task", "name": "x" * 300}, 400),
        ({"kind": [], "name": {}}, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_paused_changes_nothing(api: APIClient, body: Any, status: int) -> None:
    answer = api.post("/api/pauses/", body, format="json")
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), answer.content
    assert not Pause.objects.exists()


def test_a_limit_is_changed_in_part_and_reset(api: APIClient, limit: Limit) -> None:
    url = f"/api/limits/{limit.pk}/"
    told = api.get(url).json()
    assert (told["concurrency"], told["rate"], told["set_at"]) == (2, "100/m", None)
    changed = api.patch(url, {"rate": "5/10s"}, format="json").json()
    assert (changed["concurrency"], changed["rate"], changed["set_by"]) == (2, "5/10s", "anna")
    assert changed["code"] == {"concurrency": 2, "rate": "100/m"}
    assert api.patch(url, {"concurrency": None, "rate": None}, format="json").json()["rate"] is None
    assert api.get("/api/limits/").json()["results"] == [api.get(url).json()]
    reset = api.post(f"{url}reset/").json()
    assert reset == told
    assert api.post(f"{url}reset/").status_code == 409


@pytest.mark.parametrize(
    "body",
    [{"concurrency": 0}, {"concurrency": "x"}, {"concurrency": 10**9}, {"rate": "often"}, {"rate": "0/m"},
     {"rate": ""}, {"rate": 5}, {"rate": []}, {"rate": "\x00"}, [1]],
)  # fmt: skip
def test_what_cannot_be_a_limit_changes_nothing(api: APIClient, limit: Limit, body: Any) -> None:
    answer = api.patch(f"/api/limits/{limit.pk}/", body, format="json")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json"), answer.content
    limit.refresh_from_db()
    assert limit.set_at is None


def test_of_two_who_change_a_limit_the_second_reads_it_again(api: APIClient, limit: Limit) -> None:
    url = f"/api/limits/{limit.pk}/"
    seen = api.get(url)["ETag"]
    assert api.patch(url, {"concurrency": 3}, format="json", HTTP_IF_MATCH=seen).status_code == 200
    assert api.patch(url, {"concurrency": 4}, format="json", HTTP_IF_MATCH=seen).status_code == 412
    limit.refresh_from_db()
    assert limit.concurrency == 3


# ---- On the pages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(anna: User) -> Client:
    client = Client()
    client.force_login(anna)
    return client


def act(browser: Client, action: str, **form: str) -> str:
    form = {"action": action, "kind": "task", "name": "probe.effect"} | form
    return browser.post("/admin/operations/flow/act/", form, follow=True).content.decode()


def test_the_overview_sets_and_resets_a_limit(browser: Client, limit: Limit) -> None:
    page = act(browser, "limit", concurrency=" 7 ", rate="")
    assert "The limit of the task probe.effect is set: 7 at once." in page
    assert "by anna" in page
    limit.refresh_from_db()
    assert (limit.concurrency, limit.rate, limit.of_code) == (7, None, "2 at once, 100/m")
    assert "is that of the code again" in act(browser, "reset")
    limit.refresh_from_db()
    assert limit.in_force == limit.of_code


@pytest.mark.parametrize(
    "form",
    [{"concurrency": "-1"}, {"concurrency": "x"}, {"concurrency": "0"}, {"concurrency": "9" * 5000}, {"rate": "x"},
     {"concurrency": "٣"}, {"name": "no"}, {"kind": "x"}, {"name": "\x00"}],
)  # fmt: skip
def test_a_wrong_form_changes_nothing_and_says_why(browser: Client, limit: Limit, form: dict[str, str]) -> None:
    assert 'class="error"' in act(browser, "limit", **form)
    limit.refresh_from_db()
    assert limit.set_at is None


def test_the_list_shows_what_is_due_later(browser: Client) -> None:
    tasks.effect.apply_async(("nowhere", "x"), countdown=3600)
    now = TaskRun.of(tasks.effect.delay("nowhere", "y"))
    change_run(now.pk, run_at=timezone.now() - timedelta(minutes=1))
    page = browser.get("/admin/operations/tasks/?status=later").content.decode()
    assert page.count('class="ops-state ops-later"') == 1
    assert "in 1 h" in page or "in 59 min" in page
    assert 'class="ops-state ops-queued"' not in page
    overview = browser.get("/admin/operations/").content.decode()
    assert ">1 later</a>" in overview
