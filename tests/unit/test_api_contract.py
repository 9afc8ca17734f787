"""What every operation of the API has in common: parameters, preconditions, keys, and how it is described."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
import schemathesis
from django.test import Client
from rest_framework.test import APIClient

from app.accounts.models import User
from app.wsgi import application
from pressroom.enqueue.ownership import owned_by
from pressroom.models import IdempotencyKey, TaskRun
from tests.support.probes import tasks
from tests.unit.conftest import client_of

pytestmark = pytest.mark.django_db

DOCUMENT = schemathesis.openapi.from_wsgi("/api/schema/?format=json", application).raw_schema
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def parameters(operation: dict[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", [])}


LISTS = sorted(label[4:] for label, operation in OPERATIONS.items() if "cursor" in parameters(operation))
POSTS = sorted(label[5:] for label in OPERATIONS if label.startswith("POST "))
KEPT = [path for path in POSTS if "Idempotency-Key" in parameters(OPERATIONS[f"POST {path}"])]
UUID = "01900000-0000-7000-8000-000000000000"


NUMBERED = {"posts", "pauses", "limits", "task-actions"}
"""What has numbers for ids."""
MAILED = {"POST /api/auth/email/change/", "POST /api/auth/password/forgotten/", "POST /api/subscriptions/"}
"""What is accepted there is a mail, which nobody may look after."""


def address(path: str) -> str:
    return path.replace("{id}", "1" if path.split("/")[2] in NUMBERED else UUID).replace("{token}", "x")


@pytest.fixture
def staff(db: None) -> APIClient:
    return client_of(User.objects.create_superuser("staff", "staff@example.com", "a-long-passphrase-1"))


def problem_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content[:300]
    assert answer["Content-Type"] == "application/problem+json"
    return dict(json.loads(answer.content))


class TestLists:
    @pytest.mark.parametrize("path", LISTS)
    def test_a_parameter_that_there_is_not_is_400(self, staff: APIClient, path: str) -> None:
        assert staff.get(path).status_code == 200
        for query, name in (
            ("nonsense=1", "nonsense"), ("statuss=draft", "statuss"), ("=", ""), ("page=2", "page"),
            ("page_size=5&page_size=6", "page_size"), ("a%00=1", "a\x00"),
        ):  # fmt: skip
            errors = problem_of(staff.get(f"{path}?{query}"), 400)["errors"]
            assert [error["pointer"] for error in errors] == [f"#/{name}"], query

    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize("size", ["0", "101", "-1", "x", "", "1.5", "1e2", "%C2%B2", "99999999999999999999"])
    def test_a_page_of_another_size_is_400(self, staff: APIClient, path: str, size: str) -> None:
        problem_of(staff.get(f"{path}?page_size={size}"), 400)

    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize(
        "position", ["p=x", "p=", "p=%00", "p=1e999", f"p={10**40}", "p=2026-13-45", "p=9999-12-31&r=1&o=-1", "o=x"]
    )
    def test_a_cursor_to_nowhere_is_404_or_an_empty_page(self, staff: APIClient, path: str, position: str) -> None:
        answer = staff.get(path, {"cursor": b64encode(position.encode()).decode()})
        assert answer.status_code in (200, 404), answer.content[:300]

    def test_pages_link_to_each_other(self, author: User, as_author: APIClient) -> None:
        with owned_by(author):
            for _ in range(3):
                tasks.effect.delay("/dev/null", "x")
        first = as_author.get("/api/tasks/?page_size=2")
        assert first["Link"] == f'<{first.json()["next"]}>; rel="next"'
        last = as_author.get(first.json()["next"])
        assert last["Link"] == f'<{last.json()["previous"]}>; rel="prev"'


class TestIdempotencyKey:
    @pytest.mark.parametrize("path", POSTS)
    def test_is_kept_or_refused(self, staff: APIClient, path: str) -> None:
        """Never ignored: a client that sends one counts on it."""
        answer = staff.post(address(path), {}, HTTP_IDEMPOTENCY_KEY="a key")
        if path in KEPT:
            assert "Idempotency-Key" not in answer.content.decode()
        else:
            assert problem_of(answer, 400)["errors"][0]["pointer"] == "#/Idempotency-Key"

    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize("key", ["", "x" * 10_000, "a\x00b", "a\nb", "\xe9", "\u20ac", "\x7f"])
    def test_an_odd_one_is_400(self, staff: APIClient, path: str, key: str) -> None:
        before = User.objects.count()
        # As a server hands it over: bytes, as if they were Latin-1.
        header = key.encode().decode("latin-1")
        answer = staff.post(address(path), {}, HTTP_IDEMPOTENCY_KEY=header)
        # Where nothing is there, or nobody may, that comes first.
        assert problem_of(answer, answer.status_code)["status"] in (400, 403, 404)
        assert (User.objects.count(), IdempotencyKey.objects.exists()) == (before, False)

    def test_a_cancellation_can_be_repeated(self, author: User, as_author: APIClient) -> None:
        with owned_by(author):
            run = TaskRun.of(tasks.ordered.delay())
        first, again = (as_author.post(f"/api/tasks/{run.pk}/cancel/", HTTP_IDEMPOTENCY_KEY="k") for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert (again.content, again["Location"]) == (first.content, first["Location"])


class TestPreconditions:
    def test_another_state_is_412_and_nothing_happens(self, author: User, as_author: APIClient) -> None:
        with owned_by(author):
            run = TaskRun.of(tasks.ordered.delay())
        url = f"/api/tasks/{run.pk}/"
        etag = as_author.get(url)["ETag"]
        for other in ('"other"', f"W/{etag}", '"x", "y"', '"\x00"', '""'):
            problem_of(as_author.post(f"{url}cancel/", HTTP_IF_MATCH=other), 412)
        for odd in (etag.strip('"'), "x", "", "\x00", ", ,"):
            problem_of(as_author.post(f"{url}cancel/", HTTP_IF_MATCH=odd), 400)
        problem_of(as_author.post(f"{url}cancel/", HTTP_IF_NONE_MATCH="*"), 412)
        run.refresh_from_db()
        assert run.status == "queued"
        assert as_author.post(f"{url}cancel/", HTTP_IF_MATCH=f'"other", {etag}').status_code == 202
        assert as_author.get(url)["ETag"] != etag

    def test_a_repeat_with_its_key_gets_the_first_answer(self, author: User, as_author: APIClient) -> None:
        """Though by then the object is in another state: the client did not hear of that."""
        with owned_by(author):
            url = f"/api/tasks/{TaskRun.of(tasks.ordered.delay()).pk}/"
        headers = {"HTTP_IF_MATCH": as_author.get(url)["ETag"], "HTTP_IDEMPOTENCY_KEY": "k"}
        assert [as_author.post(f"{url}cancel/", **headers).status_code for _ in range(2)] == [202, 202]

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PATCH", "FOO", "DISPATCH"])
    def test_a_method_that_compares_nothing_is_as_ever(self, staff: APIClient, method: str) -> None:
        run = TaskRun.of(tasks.effect.delay("/dev/null", "x"))
        answer = staff.generic(method, f"/api/tasks/{run.pk}/", HTTP_IF_MATCH='"x"')
        assert answer.status_code == (200 if method == "OPTIONS" else 405)

    def test_a_foreign_object_is_not_found_whatever_its_state(self, author: User, as_reader: APIClient) -> None:
        with owned_by(author):
            url = f"/api/tasks/{TaskRun.of(tasks.effect.delay('/dev/null', 'x')).pk}/"
        problem_of(as_reader.post(f"{url}cancel/", HTTP_IF_MATCH='"x"'), 404)

    @pytest.mark.parametrize(
        "path", sorted(path for path in POSTS if "If-Match" not in parameters(OPERATIONS[f"POST {path}"]))
    )
    def test_where_nothing_is_compared_it_is_400(self, staff: APIClient, path: str) -> None:
        assert (
            problem_of(staff.post(address(path), {}, HTTP_IF_MATCH='"x"'), 400)["errors"][0]["pointer"] == "#/If-Match"
        )

    @pytest.mark.parametrize("path", LISTS)
    def test_reading_a_list_in_another_state_is_412(self, staff: APIClient, path: str) -> None:
        answer = staff.get(path, HTTP_IF_MATCH='"x"')
        if answer.has_header("ETag") or answer.status_code != 200:
            problem_of(answer, 412)


@pytest.mark.parametrize("path", sorted({path for path in POSTS if path.count("{") < 2}))
def test_without_its_last_slash_no_body_is_lost(path: str) -> None:
    answer = Client().post(address(path).rstrip("/"), {}, content_type="application/json")
    assert answer.status_code == 308
    assert answer["Location"].endswith(address(path))
    assert Client().get(address(path).rstrip("/")).status_code == 301


def test_no_other_origin_may_call_it_unless_a_setting_says_so(anonymous: APIClient) -> None:
    for method in ("get", "options"):
        answer = getattr(anonymous, method)(
            "/api/subscriptions/", HTTP_ORIGIN="https://app.example.com", HTTP_ACCESS_CONTROL_REQUEST_METHOD="POST"
        )
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


class TestDescription:
    def test_each_operation_says_in_a_line_what_it_does(self) -> None:
        for label, operation in OPERATIONS.items():
            assert 5 < len(operation.get("summary", "")) < 90, label
            assert "\n" not in operation["summary"], label

    def test_names_the_headers_of_its_answers(self) -> None:
        for label, operation in OPERATIONS.items():
            for status, wanted in {
                "202": set() if label in MAILED else {"Location", "Retry-After"},
                "429": {"Retry-After"}, "503": {"Retry-After"},
                "401": {"WWW-Authenticate"}, "405": {"Allow"}, "304": {"ETag"},
            }.items():  # fmt: skip
                if status in operation["responses"]:
                    assert wanted <= set(operation["responses"][status].get("headers", {})), (label, status)

    def test_names_its_errors(self) -> None:
        for label, operation in OPERATIONS.items():
            method, path = label.split(" ", 1)
            wanted = {"400", "405", "406", "413", "503"}
            wanted |= {"415"} if method in ("POST", "PUT", "PATCH") else set()
            wanted |= {"404"} if "{" in path else set()
            wanted |= {"304", "412"} if method == "GET" else set()
            wanted |= {"409", "422"} if path in KEPT and method == "POST" else set()
            assert wanted <= set(operation["responses"]), label

    @pytest.mark.parametrize("label", sorted(OPERATIONS))
    def test_another_media_type_is_406(self, staff: APIClient, label: str) -> None:
        method, path = label.split(" ", 1)
        answer = staff.generic(method, address(path), HTTP_ACCEPT="application/xml")
        problem_of(answer, 406)
