"""``/api/task-actions/`` and the searched list of tasks."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from pressroom.bulk.executor import work_once
from pressroom.enqueue.ownership import owned_by
from pressroom.http import run_filter
from pressroom.models import BulkAction, Status, TaskRun
from pressroom.sql import ends, runs, workers
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db
URL = "/api/task-actions/"
QUEUED = {"kind": "cancel", "filter": {"status": "queued"}}


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna", "anna@example.com")


@pytest.fixture
def ben() -> User:
    return User.objects.create_user("ben", "ben@example.com")


def client_of(user: User) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


@pytest.fixture
def api(anna: User) -> APIClient:
    return client_of(anna)


def call(**options: Any) -> TaskRun:
    return TaskRun.of(tasks.effect.apply_async(("/dev/null", "x"), **options))


def work() -> None:
    while work_once():
        pass


def claim(run: TaskRun) -> runs.Claim:
    claimed = runs.claim(run.pk, uuid.uuid4(), workers.register("test@here", '["default"]', 2))
    assert claimed is not None
    return claimed


class TestActions:
    def test_one_is_ordered_followed_and_done(self, api: APIClient) -> None:
        for _ in range(3):
            call()
        made = api.post(URL, QUEUED, format="json")
        told = made.json()
        assert (made.status_code, made["Location"], made["Retry-After"]) == (202, told["url"], "1")
        assert (told["state"], told["total"], told["filter"], told["by"]) == (
            "ordered",
            0,
            {"status": "queued"},
            "anna",
        )
        assert api.get(URL).json()["results"] == [told]
        work()
        read = api.get(told["url"])
        now = read.json()
        assert (now["state"], now["total"], now["done"], now["skipped"], now["failed"]) == ("done", 3, 3, 0, 0)
        assert now["ended_at"] is not None
        assert read["ETag"] != made["ETag"]
        assert set(TaskRun.objects.values_list("status", flat=True)) == {"cancelled"}
        assert api.post(f"{told['url']}cancel/").status_code == 409

    def test_it_is_stopped(self, api: APIClient) -> None:
        call()
        told = api.post(URL, QUEUED, format="json").json()
        stopped = api.post(f"{told['url']}cancel/")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "cancelled")
        work()
        assert TaskRun.objects.get().status == Status.QUEUED

    def test_the_same_twice_is_a_conflict_and_a_repeat_with_its_key_is_not(self, api: APIClient) -> None:
        first, second = (api.post(URL, QUEUED, format="json", HTTP_IDEMPOTENCY_KEY="one") for _ in range(2))
        assert first.json() == second.json()
        refused = api.post(URL, QUEUED, format="json")
        assert (refused.status_code, refused["Content-Type"]) == (409, "application/problem+json")
        assert BulkAction.objects.count() == 1

    def test_move(self, api: APIClient) -> None:
        run = call(countdown=60)
        body = {"kind": "move", "filter": {"status": "later"}, "queue": "emails", "priority": 7}
        assert api.post(URL, body, format="json").status_code == 202
        work()
        run.refresh_from_db()
        assert (run.queue, run.priority) == ("emails", 7)

    @pytest.mark.parametrize(
        "body",
        [
            {}, [], {"kind": "cancel"}, {"kind": "explode", "filter": {"status": "queued"}},
            QUEUED | {"filter": {}}, QUEUED | {"filter": []}, QUEUED | {"filter": None}, QUEUED | {"filter": "all"},
            QUEUED | {"filter": {"statut": "queued"}}, QUEUED | {"filter": {"status": "queued", "names": ["x"]}},
            QUEUED | {"filter": {"status": []}}, QUEUED | {"filter": {"error": "\x00"}},
            QUEUED | {"filter": {"argument": "\ud800"}},
            QUEUED | {"filter": {"error": "x" * 51}}, QUEUED | {"filter": {"since": "0001-01-01T00:00:00Z"}},
            QUEUED | {"filter": {"until": "9999-12-31T23:59:59-12:00"}}, QUEUED | {"filter": {"until": "1969"}},
            QUEUED | {"filter": {"owner": "nobody"}}, QUEUED | {"filter": {f"x{n}": n for n in range(10_000)}},
            QUEUED | {"queue": "emails"}, QUEUED | {"priority": 1}, QUEUED | {"kind": "move"},
            QUEUED | {"kind": "move", "queue": "nowhere"}, QUEUED | {"kind": "move", "queue": "\x00"},
            QUEUED | {"kind": "move", "priority": 256}, QUEUED | {"kind": "move", "priority": "NaN"},
        ],
    )  # fmt: skip
    def test_what_cannot_be_ordered_changes_nothing(self, api: APIClient, body: Any) -> None:
        # As ASCII, because DRF's own encoder refuses a lone surrogate.
        answer = api.post(URL, json.dumps(body), content_type="application/json")
        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json"), answer.content
        assert not BulkAction.objects.exists()

    def test_others_cancel_what_they_ordered_and_nothing_else(self, ben: User, anna: User) -> None:
        with owned_by(ben):
            mine, of_the_site = TaskRun.of(tasks.ordered.delay()), call()
        with owned_by(anna):
            of_anna = TaskRun.of(tasks.ordered.delay())
        api = client_of(ben)
        for kind, extra in (("run-again", {}), ("run-now", {}), ("discard", {}), ("move", {"queue": "emails"})):
            assert api.post(URL, QUEUED | {"kind": kind} | extra, format="json").status_code == 403
        assert api.post(URL, QUEUED | {"filter": {"name": "probe.effect"}}, format="json").status_code == 403
        assert api.post(URL, QUEUED | {"filter": {"owner": "anna"}}, format="json").status_code == 400
        told = api.post(URL, QUEUED, format="json").json()
        work()
        found = dict(TaskRun.objects.values_list("pk", "status"))
        assert (found[mine.pk], found[of_the_site.pk], found[of_anna.pk]) == ("cancelled", "queued", "queued")
        assert api.get(told["url"]).json()["done"] == 1
        assert client_of(anna).get(told["url"]).status_code == 200
        other = client_of(anna).post(URL, QUEUED, format="json").json()
        assert api.get(other["url"]).status_code == 404
        assert [one["id"] for one in api.get(URL).json()["results"]] == [told["id"]]


class TestList:
    def test_each_filter(self, api: APIClient, ben: User) -> None:
        dead, done, later = call(), call(), call(countdown=60)
        with owned_by(ben):
            of_ben = TaskRun.of(tasks.effect.delay("/dev/null", "내일"))
        assert ends.fail(claim(dead), runs.Failure("KeyError", "it's gone", ""), None)
        assert ends.succeed(claim(done), json.dumps("said"))
        change_run(done.pk, worker_id=None)
        change_run(of_ben.pk, run_at=timezone.now() - datetime.timedelta(minutes=1))
        for query, expected in (
            ({"error": "keyerr"}, [dead]), ({"error": "gone"}, [dead]), ({"error": "%"}, []),
            ({"worker": "test@"}, [dead]), ({"result": "said"}, [done]), ({"owner": "ben"}, [of_ben]),
            ({"argument": "내일"}, [of_ben]), ({"status": "later"}, [later]), ({"status": "held"}, []),
            ({"error": "gone", "status": "failed", "queue": "default", "name": "probe.effect"}, [dead]),
            ({"since": "2020-01-01T00:00:00Z", "error": "gone"}, [dead]), ({"until": "2020-01-01T00:00:00Z"}, []),
        ):  # fmt: skip
            answer = api.get("/api/tasks/", query)
            assert answer.status_code == 200, answer.content
            assert [one["id"] for one in answer.json()["results"]] == [str(run.pk) for run in expected], query
        mine = client_of(ben)
        found = mine.get("/api/tasks/?argument=x&since=2020-01-01T00:00:00Z").json()["results"]
        assert found == [], "nobody else's"
        assert mine.get("/api/tasks/?owner=anna").status_code == 400

    def test_it_is_paged_though_a_page_may_be_empty(self, api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run_filter, "LOOKED_THROUGH", 3)
        wanted = [TaskRun.of(tasks.effect.delay("/dev/null", "wanted")) for _ in range(2)]
        for _ in range(7):
            call()
        url, found, pages = "/api/tasks/?argument=wanted&page_size=1", [], 0
        while url:
            told = api.get(url).json()
            found += told["results"]
            url, pages = told["next"], pages + 1
            assert pages < 20
        assert [one["id"] for one in found] == [str(run.pk) for run in reversed(wanted)]
        assert pages > 2

    @pytest.mark.parametrize(
        "query",
        ["since=0001-01-01T00:00:00Z", "until=9999-12-31T23:59:59-12:00", "error=%00", "owner=nobody", "page_size=0",
         "error=x&error=y", "status=odd", "worker=" + "x" * 51],
    )  # fmt: skip
    def test_what_is_not_valid_is_refused(self, api: APIClient, query: str) -> None:
        answer = api.get(f"/api/tasks/?{query}{'' if 'page_size' not in query else '&error=x'}")
        assert answer.status_code == 400, answer.content

    def test_a_cursor_of_another_list_is_not_found(self, api: APIClient) -> None:
        assert api.get("/api/tasks/?error=x&cursor=abc").status_code == 404
