"""Odd requests to the API and the pages of flow control: an error of the client, in words, that changes nothing."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from app.accounts.models import User
from app.celery import app
from pressroom import operator_actions
from pressroom.bulk import orders
from pressroom.enqueue import limits as limit_options
from pressroom.enqueue.ownership import owned_by
from pressroom.models import BulkAction, Limit, Pause
from pressroom.operations.views import overview
from pressroom.sql import limits
from pressroom.sql.run_filter import RunFilter
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db
NAME = "probe.limited_effect"
PAUSE = '{"kind": "key", "name": "' + NAME + '", "key": %s}'
ORDERS = "/api/task-actions/"
DIGITS = "9" * 5_000


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna", "anna@example.com")


@pytest.fixture
def api(anna: User) -> APIClient:
    return client_of(anna)


@pytest.fixture
def browser(anna: User) -> Client:
    client = Client()
    client.force_login(anna)
    return client


@pytest.fixture
def limit() -> Limit:
    limits.sync(limit_options.limits_of([app.tasks[NAME]]))
    return Limit.objects.get()


def client_of(user: User) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


def send(api: APIClient, method: str, url: str, body: str) -> Any:
    answer = getattr(api, method)(url, body, content_type="application/json")
    if answer.status_code >= 400:
        assert answer["Content-Type"] == "application/problem+json"
        assert len(answer.content) < 2_000
    return answer


# ---- The API ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "{}", '{"concurency": 5}', '{"concurrency": 5, "rat": "1/s"}', '{"name": "x"}', '{"set_by": 1}', "null", '"x"',
        "[]",
        '{"concurrency": true}', '{"concurrency": 5.5}', '{"concurrency": 1e308}', '{"concurrency": 1e400}',
        '{"concurrency": NaN}', '{"concurrency": -1}', f'{{"concurrency": {DIGITS}}}', f'{{"concurrency": {10**400}}}',
        '{"concurrency": null, "concurrency": 0}', '{"rate": "１/m"}', '{"rate": "\\ud800"}', '{"rate": "1/m\\u0000"}',
        '{"rate": "' + "1" * 1_000_000 + '"}', "[" * 100_000, '{"rate": true}', '{"rate": "1/m\\u200b"}', "", "\x00",
    ],
    ids=lambda body: repr(body)[:30],
)  # fmt: skip
def test_what_is_no_change_of_a_limit(api: APIClient, limit: Limit, body: str) -> None:
    assert send(api, "patch", f"/api/limits/{limit.pk}/", body).status_code == 400
    limit.refresh_from_db()
    assert (limit.set_at, limit.in_force) == (None, "2 at once")


def test_a_limit_as_it_was_read_may_be_sent_back(api: APIClient, limit: Limit) -> None:
    url = f"/api/limits/{limit.pk}/"
    answer = api.patch(url, api.get(url).json() | {"concurrency": 9}, format="json")
    assert (answer.status_code, answer.json()["concurrency"]) == (200, 9)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (PAUSE % '"\\ud800"', 400), (PAUSE % "1e400", 400), (PAUSE % "NaN", 400), (PAUSE % DIGITS, 400),
        (PAUSE % ("[" * 100_000), 400), (PAUSE % ("[" * 500 + "]" * 500), 409),
        (PAUSE % '{"__type__": "uuid", "__value__": {}}', 409), (PAUSE.replace("key\":", "kye\":") % "1", 400),
        ('{"kind": "queue", "name": "emails", "key": null}', 400), ('{"kind": "queue", "name": "em\\u0430ils"}', 409),
        ('{"kind": "queue", "name": "emails", "until": "x"}', 400), ('{"kind": "queue", "name": true}', 400),
        ('{"kind": "queue", "name": "emails\\u202e"}', 409), ('{"kind": "task", "name": "probe.glance"}', 409),
    ],
)  # fmt: skip
def test_what_cannot_be_paused(api: APIClient, limit: Limit, body: str, status: int) -> None:
    answer = send(api, "post", "/api/pauses/", body)
    assert answer.status_code == status, answer.content
    assert not Pause.objects.exists()


@pytest.mark.parametrize(
    "key", ['"\\u0000"', '"\\u0085\\u009b"', '"\\u202eabc\\u200b"', str(10**300), "{}", "null", "true"]
)
def test_an_odd_key_is_paused_and_read_back(api: APIClient, limit: Limit, key: str) -> None:
    made = send(api, "post", "/api/pauses/", PAUSE % key)
    assert made.status_code == 201
    told = made.json()
    if len(key) < limit_options.LONGEST_KEY:
        assert told["key"] == json.loads(key)
    assert api.get("/api/pauses/").json()["results"] == [told]
    assert api.delete(told["url"]).status_code == 204


def order(kind: str = "cancel", wanted: Any = None, **more: Any) -> str:
    return json.dumps({"kind": kind, "filter": {"queue": "default"} if wanted is None else wanted} | more)


@pytest.mark.parametrize(
    "body",
    [
        order(wanted={"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
        order(wanted={"since": "2026-01-02T00:00:00+09:00", "until": "2026-01-01T15:00:00Z"}),
        order(wanted={"status": "succeeded"}), order("discard", {"status": "queued"}),
        order("run-now", {"status": "failed"}),
        order(wanted={"since": 1}), order(wanted={"since": "2026-01-01T00:00:00+99:99"}), order(wanted={"queue": None}),
        order(wanted={"since": "0001-01-01T00:00:00+23:59"}), order(wanted={"until": "9999-12-31T23:59:59-23:59"}),
        order(wanted={"name": "  "}), order(wanted={"name": True}), order(wanted={"__class__": 1}), order(priorty=5),
        order("move", queue="emails", priorty=5), order("move", priority=True), order("move", priority=10**400),
        order("move", queue="", priority=None), order("move", queue="em\u0430ils"), order(["cancel"]),
        order("cancel\u200b"),
        order("move").replace("}}", '}, "priority": 1e400}'),
    ],
    ids=lambda body: body[:60],
)  # fmt: skip
def test_what_cannot_be_ordered(api: APIClient, body: str) -> None:
    answer = send(api, "post", ORDERS, body)
    assert answer.status_code == 400, answer.content
    assert not BulkAction.objects.exists()


def test_a_time_without_an_end_is_refused_in_the_list_too(api: APIClient) -> None:
    query = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    assert api.get("/api/tasks/", query).status_code == 400


@pytest.mark.parametrize(
    "pk", ["0", "-1", str(2**63), str(10**400), DIGITS, "x", "%00", "%D9%A3"], ids=lambda pk: pk[:20]
)
@pytest.mark.parametrize("path", ["limits", "pauses", "task-actions"])
def test_an_address_that_does_not_exist(api: APIClient, path: str, pk: str) -> None:
    url = f"/api/{path}/{pk}/"
    answers = [api.get(url), api.patch(url, {"concurrency": 1}, format="json"), api.delete(url),
               api.post(f"{url}reset/"), api.post(f"{url}cancel/")]  # fmt: skip
    assert {answer.status_code for answer in answers} <= {404, 405}


def test_whoever_may_only_cancel_their_own_leaves_room_for_others(anna: User) -> None:
    ben = User.objects.create_user("ben", "ben@example.com")
    with owned_by(ben):
        tasks.ordered.delay()
    api = client_of(ben)
    answers = [api.post(ORDERS, order(wanted={"argument": f"x{n}"}), content_type="application/json") for n in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 409]
    assert client_of(anna).post(ORDERS, order(), content_type="application/json").status_code == 202


def test_the_wrong_person_changes_nothing(limit: Limit, anna: User) -> None:
    operator_actions.pause(kind="queue", name="emails", user=anna)
    [pause] = Pause.objects.all()
    for client, status in ((APIClient(), 401), (client_of(User.objects.create_user("ben", "b@example.com")), 403)):
        answers = [
            client.post("/api/pauses/", {"kind": "queue", "name": "default"}, format="json"),
            client.get("/api/pauses/"), client.delete(f"/api/pauses/{pause.pk}/"),
            client.get(f"/api/limits/{limit.pk}/"),
            client.patch(f"/api/limits/{limit.pk}/", {"concurrency": 1}, format="json"),
            client.post(f"/api/limits/{limit.pk}/reset/"),
        ]  # fmt: skip
        assert {answer.status_code for answer in answers} == {status}
    limit.refresh_from_db()
    assert (list(Pause.objects.all()), limit.set_at) == ([pause], None)


# ---- Rows that this code did not write -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"kind": "explode"}, {"filter": {"later": 1}}, {"filter": []}, {"filter": "x"}, {"filter": {"names": [1, [2]]}},
     {"filter": {"since": "x"}}, {"filter": {"owner_id": 10**30}}, {"by_id": 987_654_321}, {"filter": {"names": 5}}],
)  # fmt: skip
def test_an_action_of_a_later_release_hides_no_other(api: APIClient, browser: Client, change: dict[str, Any]) -> None:
    odd, good = (
        orders.order(kind="cancel", wanted=RunFilter(queue=queue), user=None) for queue in ("default", "emails")
    )
    BulkAction.objects.filter(pk=odd.pk).update(**change)
    listed = api.get(ORDERS)
    assert [one["id"] for one in listed.json()["results"]] == [good.pk, odd.pk]
    assert api.get(f"{ORDERS}{odd.pk}/").status_code == 200
    assert f"actions/{good.pk}/" in browser.get("/admin/operations/actions/").content.decode()
    assert browser.get(f"/admin/operations/actions/{odd.pk}/").status_code == 200
    assert api.post(f"{ORDERS}{odd.pk}/cancel/").json()["state"] == "cancelled"


def test_the_overview_shows_many_pauses_in_part_and_one_of_a_queue_that_is_gone(
    browser: Client, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator_actions.pause(kind="queue", name="emails", user=None)
    Pause.objects.update(name="a queue of old")
    monkeypatch.setattr(overview, "MOST_PAUSES", 3)
    for key in range(3):
        operator_actions.pause(kind="key", name=NAME, key=key, user=None)
    page = browser.get("/admin/operations/").content.decode()
    assert page.count('class="ops-state ops-paused"') == 3
    assert "There are more" in page
    assert "a queue of old" in page
    form = {"action": "resume", "kind": "queue", "name": "a queue of old"}
    assert "is resumed" in browser.post("/admin/operations/flow/act/", form, follow=True).content.decode()


# ---- The pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        {"action": "pause", "kind": "key"}, {"action": "pause", "kind": "queue", "name": "emails", "key": "7"},
        {"action": "pause", "kind": "task", "key": "\x00"},
        {"action": "pause", "kind": "task", "name": "x" * 1_000_000},
        {"action": "pause", "kind": "x" * 1_000_000}, {"action": "pause", "kind": "task", "name": "probe.glance"},
        {"action": "resume", "kind": "task", "name": "x" * 1_000_000},
        {"action": "resume", "kind": "key", "name": DIGITS},
        {"action": "resume", "kind": "x" * 1_000_000}, {"action": "resume", "kind": "key", "name": str(2**62)},
        {"action": "limit", "kind": "task", "rate": "x" * 1_000_000}, {"action": "limit", "kind": "x" * 1_000_000},
        {"action": "limit", "kind": "task", "concurrency": "0"}, {"action": "limit", "kind": "task", "rate": "１/m"},
        {"action": "reset", "kind": "x" * 1_000_000}, {"action": "reset", "kind": "task", "name": "%"},
    ],
    ids=lambda form: " ".join(form.values())[:40],
)  # fmt: skip
def test_a_wrong_form_says_why_in_few_words(browser: Client, limit: Limit, form: dict[str, str]) -> None:
    page = browser.post("/admin/operations/flow/act/", {"name": NAME} | form, follow=True).content.decode()
    [told] = re.findall(r'class="error">([^<]*)', page)
    assert 10 < len(told) < 900
    limit.refresh_from_db()
    assert (Pause.objects.count(), limit.set_at) == (0, None)


def test_a_key_with_half_a_character_is_paused_as_json(browser: Client, limit: Limit) -> None:
    form = {"action": "pause", "kind": "task", "name": NAME, "key": '"\\ud800"'}
    assert "Paused the key" in browser.post("/admin/operations/flow/act/", form, follow=True).content.decode()
    assert Pause.objects.get().lane.endswith('"\\ud800"')


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?span=x", 400), ("?span=%00", 400), ("?span=", 400), ("tasks/?before=x", 200),
        ("tasks/?since=0001-01-01", 200),
        ("tasks/?since=9999-12-31T23:59:59", 200), ("tasks/?until=99999-01-01", 200), ("tasks/?name=%00", 200),
        ("tasks/?name=%ED%A0%80", 200), ("tasks/?owner=%25", 200), ("tasks/?error=%25_%5C%27%22", 200),
        ("tasks/?key=%25", 200),
        ("tasks/?since=2026-01-02&until=2026-01-01", 200), ("tasks/?worker=%25%5C", 200),
        ("dead-letters/?name=%00", 400),
        ("tasks/?before=ffffffff-ffff-ffff-ffff-ffffffffffff", 200), ("dead-letters/?queue=%27%22%3E%25", 200),
        (f"actions/{2**63}/", 404), (f"actions/{DIGITS}/", 404), ("actions/-1/", 404), ("actions/%D9%A3/", 404),
        (f"actions/{10**30}/", 404),
    ],
    ids=lambda given: str(given)[:40],
)  # fmt: skip
def test_an_odd_address_of_a_page(browser: Client, path: str, status: int) -> None:
    assert browser.get(f"/admin/operations/{path}").status_code == status


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"action": "cancel", "all": "1", "of": "tasks", "since": "x"}, 400), ({"action": "cancel", "run": "x"}, 400),
        ({"action": "cancel", "all": "1", "of": "x"}, 400), ({"action": "x", "all": "1", "of": "tasks"}, 400),
        ({"action": "move", "all": "1", "of": "tasks", "to_priority": "1e400"}, 200),
        ({"action": "move", "all": "1", "of": "tasks", "to_queue": "em\u0430ils"}, 200),
        ({"action": "discard", "all": "1", "of": "tasks", "status": "queued"}, 302),
        ({"action": "cancel", "all": "1", "of": "dead_letters"}, 302),
        ({"action": "cancel", "run": str(uuid.UUID(int=0))}, 302),
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_order_on_a_page_orders_nothing(browser: Client, form: dict[str, str], status: int) -> None:
    answer = browser.post("/admin/operations/tasks/act/", form | {"confirmed": "1"})
    assert answer.status_code == status
    assert not BulkAction.objects.exists()
