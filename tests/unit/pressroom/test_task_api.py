"""``/api/tasks/``: lists, cancel, retry, ETag, Idempotency-Key; dead letters on the command line."""

from __future__ import annotations

import datetime
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from pressroom.enqueue.ownership import owned_by
from pressroom.http.idempotency import keys_cleanup
from pressroom.models import IdempotencyKey, Status, TaskRun
from pressroom.sql import dispatch, ends, runs, workers
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks
from tests.unit.conftest import client_of, permit

pytestmark = pytest.mark.django_db


def call(owner: User | None, queue: str = "default") -> TaskRun:
    with owned_by(owner):
        return TaskRun.of(tasks.effect.apply_async(["/dev/null", "x"], queue=queue))


def kill(run: TaskRun) -> TaskRun:
    """Make a dead letter of it, as its worker would."""
    import uuid

    claim = runs.claim(run.pk, uuid.uuid4(), workers.register("test@here", "[]", 1))
    assert claim is not None
    assert ends.fail(claim, runs.Failure("KeyError", "'x'", "Traceback: <b>here</b>"), None)
    run.refresh_from_db()
    return run


@pytest.fixture
def staff(db: None) -> APIClient:
    user = User.objects.create_user("staff", "staff@example.com", "a-long-passphrase-1", is_staff=True)
    return client_of(permit(user, "operations.operate"))


class TestList:
    def test_pages_filters_and_whose(self, author: User, reader: User, as_author: APIClient, staff: APIClient) -> None:
        mine = [call(author) for _ in range(5)]
        mine.append(kill(call(author, "emails")))
        call(reader)
        first = as_author.get("/api/tasks/?page_size=4").json()
        second = as_author.get(first["next"]).json()
        assert [run["id"] for run in first["results"] + second["results"]] == [str(run.pk) for run in reversed(mine)]
        assert second["next"] is None
        for query, count in (
            ("status=failed", 1), ("status=queued", 5), ("queue=emails", 1), ("name=probe.effect", 6), ("name=x", 0),
        ):  # fmt: skip
            assert len(as_author.get(f"/api/tasks/?{query}").json()["results"]) == count, query
        assert len(staff.get("/api/tasks/").json()["results"]) == 7

    @pytest.mark.parametrize("query", ["status=nonsense", "queue=nowhere", "name=%00"])
    def test_a_bad_filter_is_400(self, as_author: APIClient, query: str) -> None:
        assert as_author.get(f"/api/tasks/?{query}").status_code == 400

    def test_a_bad_cursor_is_404_and_nobody_is_401(self, as_author: APIClient, anonymous: APIClient) -> None:
        assert as_author.get("/api/tasks/?cursor=x").status_code == 404
        assert anonymous.get("/api/tasks/").status_code == 401


class TestETag:
    def test_what_has_not_changed_is_304(self, author: User, as_author: APIClient) -> None:
        run = call(author)
        url = f"/api/tasks/{run.pk}/"
        etag = as_author.get(url)["ETag"]
        assert as_author.get(url, HTTP_IF_NONE_MATCH=etag).status_code == 304
        kill(run)
        assert as_author.get(url, HTTP_IF_NONE_MATCH=etag).status_code == 200


class TestCancel:
    def test_one_that_waits_never_begins(self, author: User, as_author: APIClient) -> None:
        with owned_by(author):
            run = TaskRun.of(tasks.ordered.delay())
        answer = as_author.post(f"/api/tasks/{run.pk}/cancel/")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        assert answer["Location"].endswith(f"/api/tasks/{run.pk}/")
        assert dispatch.take_due({"default": 10}) == []
        again = as_author.post(f"/api/tasks/{run.pk}/cancel/")
        assert (again.status_code, again["Content-Type"]) == (409, "application/problem+json")
        assert LogEntry.objects.get().user == author

    def test_what_the_site_calls_by_itself_is_the_operators(
        self, author: User, as_author: APIClient, staff: APIClient
    ) -> None:
        url = f"/api/tasks/{call(author).pk}/"
        assert as_author.get(url).status_code == 200
        answer = as_author.post(f"{url}cancel/")
        assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
        assert as_author.get(url).json()["status"] == "queued"
        assert staff.post(f"{url}cancel/").status_code == 202

    def test_a_foreign_one_is_not_found(self, reader: User, as_author: APIClient) -> None:
        run = call(reader)
        assert as_author.post(f"/api/tasks/{run.pk}/cancel/").status_code == 404
        run.refresh_from_db()
        assert run.status == Status.QUEUED


class TestRetry:
    def test_staff_run_a_dead_one_again_as_a_new_one(self, author: User, staff: APIClient) -> None:
        dead = kill(call(author))
        answer = staff.post(f"/api/tasks/{dead.pk}/retry/")
        assert answer.status_code == 202
        new = TaskRun.objects.get(pk=answer.json()["id"])
        assert (new.retry_of, new.status, new.attempt, new.owner) == (dead, Status.QUEUED, 0, author)
        assert new.arguments == dead.arguments
        assert staff.post(f"/api/tasks/{dead.pk}/retry/").status_code == 409, "it runs again already"
        assert staff.post(f"/api/tasks/{new.pk}/retry/").status_code == 409, "it is not dead"

    def test_others_may_not(self, author: User, as_author: APIClient) -> None:
        assert as_author.post(f"/api/tasks/{kill(call(author)).pk}/retry/").status_code == 403


@pytest.mark.urls("tests.support.probes.urls")
class TestIdempotencyKey:
    URL = "/start/3/"

    def test_a_repeat_gets_the_first_answer(self, as_author: APIClient) -> None:
        first = as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY="k")
        again = as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY="k")
        assert again.content == first.content
        assert (again.status_code, again["Idempotency-Replayed"]) == (first.status_code, "true")
        assert again["Content-Type"] == first["Content-Type"] == "application/json"
        assert TaskRun.objects.count() == 3
        # Without the key it is a request of its own.
        as_author.post(self.URL)
        assert TaskRun.objects.count() == 6

    def test_another_request_with_the_key_is_422(self, as_author: APIClient) -> None:
        as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY="k")
        assert as_author.post(self.URL, {"other": 1}, HTTP_IDEMPOTENCY_KEY="k").status_code == 422

    def test_keys_of_two_users_do_not_meet(self, as_author: APIClient, staff: APIClient) -> None:
        as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY="k")
        assert "Idempotency-Replayed" not in staff.post(self.URL, {"x": 1}, HTTP_IDEMPOTENCY_KEY="k")
        assert IdempotencyKey.objects.count() == 2

    def test_an_error_is_not_kept(self, as_author: APIClient) -> None:
        assert as_author.post("/start/0/", HTTP_IDEMPOTENCY_KEY="k").status_code == 404
        assert not IdempotencyKey.objects.exists()

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
    def test_a_bad_key_is_400(self, as_author: APIClient, key: str) -> None:
        assert as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY=key).status_code == 400
        assert not TaskRun.objects.exists()

    def test_after_24_hours_it_is_forgotten(self, as_author: APIClient) -> None:
        as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY="k")
        IdempotencyKey.objects.update(created_at=timezone.now() - datetime.timedelta(hours=25))
        assert "Idempotency-Replayed" not in as_author.post(self.URL, HTTP_IDEMPOTENCY_KEY="k")
        IdempotencyKey.objects.update(created_at=timezone.now() - datetime.timedelta(hours=25))
        assert keys_cleanup() == 1


@pytest.mark.urls("tests.support.probes.urls")
@pytest.mark.django_db(transaction=True)
def test_many_at_once_with_one_key_start_the_work_once(as_author: APIClient) -> None:
    start = threading.Barrier(8)

    def start_work(_: int) -> tuple[int, Any]:
        start.wait(timeout=60)
        try:
            answer = as_author.post("/start/3/", HTTP_IDEMPOTENCY_KEY="k")
            return answer.status_code, answer.json().get("tasks")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(start_work, range(8)))
    assert {status for status, _ in answers} <= {200, 409}
    assert all(len(started) == 3 for status, started in answers if status == 200)
    assert TaskRun.objects.count() == 3


class TestCommand:
    def run(self, *arguments: str) -> str:
        out = StringIO()
        call_command("deadletters", *arguments, stdout=out)
        return out.getvalue()

    def test_list_show_retry_discard(self, author: User) -> None:
        one, two = kill(call(author)), kill(call(author, "emails"))
        assert str(one.pk) in self.run("list")
        assert str(one.pk) not in self.run("list", "--queue=emails")
        assert "Traceback: <b>here</b>" in self.run("show", str(one.pk))
        assert self.run("retry", str(one.pk)) == "1 run again\n"
        assert self.run("discard", "--all", "--queue=emails") == "1 discarded\n"
        assert not TaskRun.objects.filter(pk=two.pk).exists()

    @pytest.mark.parametrize(
        "evil", ["\x1b]0;owned\x07", "\x1b[2J", "\r", "\x9b31m", "\u202e", "\u2066", "\x7f", "\u2028"]
    )
    def test_what_others_wrote_does_not_move_the_terminals_cursor(self, author: User, evil: str) -> None:
        run = kill(call(author))
        change_run(run.pk, error=evil, error_type=evil, name=f"a{evil}")
        run.attempts.update(error=evil, traceback=f"first\n\tsecond{evil}", worker_name=evil, error_type=evil)
        shown = self.run("show", str(run.pk)) + self.run("list")
        assert evil not in shown
        assert evil.encode("unicode_escape").decode() in shown
        assert "first\n\tsecond" in shown
        assert not [each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Zl") and each not in "\n\t"]

    def test_an_error_of_two_lines_is_one_in_the_list(self, author: User) -> None:
        run = kill(call(author))
        change_run(run.pk, error="first\n01900000-0000-7000-8000-000000000000  forged")
        assert self.run("list").count("\n") == 1

    @pytest.mark.parametrize(
        "arguments",
        [("retry",), ("discard", "--all", "01900000-0000-7000-8000-000000000000"), ("show", "x"),
         ("retry", "01900000-0000-7000-8000-000000000000"), ()],
    )  # fmt: skip
    def test_refuses(self, arguments: tuple[str, ...]) -> None:
        with pytest.raises(CommandError):
            self.run(*arguments)
