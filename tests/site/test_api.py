"""Who may do what at each endpoint of the API: every role at every operation, and odd inputs. None is a 500."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from PIL import Image

from pressroom.models import TaskRun
from tests.site.conftest import ROLES, Site, undone

ELSEWHERE = "/api/auth/"
"""Sign-in and accounts have tables of their own: tests/unit/test_accounts.py."""
EVERYBODY = dict.fromkeys(ROLES, 200)


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True)
class Attempt:
    """An operation of the OpenAPI document, on one of the site's objects, and what each role is answered."""

    operation: str
    object: str
    answers: str
    """In the order of the roles."""
    body: Any = None

    @property
    def method(self) -> str:
        return self.operation.split()[0]

    @property
    def path(self) -> str:
        return self.operation.split()[1]


POST = {"title": "New", "body": "b"}
ACTIVITY, SUBSCRIBERS = ({"type": kind, "period": "2026-01"} for kind in ("activity", "subscribers"))
SUBSCRIBE = {"author": "author", "email": "a@example.com"}
VISA = {"payment_method": "pm_card_visa"}
CANCEL: dict[str, Any] = {"kind": "cancel", "filter": {"status": "queued"}}
RUN_AGAIN: dict[str, Any] = {"kind": "run-again", "filter": {"status": "failed"}}
MOVE: dict[str, Any] = {"kind": "move", "filter": {"queue": "emails"}, "queue": "reports"}
TABLE = [
    # In the order of ROLES: stranger, reader, author, other, staff, viewer, operator, editor, superuser.
    Attempt("GET /api/orders/", "", "401 200 200 200 200 200 200 200 200"),
    Attempt("POST /api/orders/", "", "401 201 201 201 201 201 201 201 201", {"plan": "monthly"}),
    Attempt("GET /api/orders/{id}/", "order", "401 404 200 404 404 404 404 404 200"),
    Attempt("POST /api/orders/{id}/pay/", "order", "401 404 202 404 404 404 404 404 202", VISA),
    Attempt("POST /api/payments/webhook/", "", "400 400 400 400 400 400 400 400 400", {"type": "x"}),
    Attempt("GET /api/posts/", "", "200 200 200 200 200 200 200 200 200"),
    Attempt("POST /api/posts/", "", "401 403 201 201 403 403 403 201 201", POST),
    Attempt("GET /api/posts/{id}/", "draft", "404 404 200 404 404 404 404 200 200"),
    Attempt("GET /api/posts/{id}/", "published", "200 200 200 200 200 200 200 200 200"),
    Attempt("PUT /api/posts/{id}/", "draft", "401 404 200 404 404 404 404 200 200", POST),
    Attempt("PUT /api/posts/{id}/", "published", "401 403 200 403 403 403 403 200 200", POST),
    Attempt("PATCH /api/posts/{id}/", "draft", "401 404 200 404 404 404 404 200 200", {"title": "t"}),
    Attempt("PATCH /api/posts/{id}/", "published", "401 403 200 403 403 403 403 200 200", {"title": "t"}),
    Attempt("DELETE /api/posts/{id}/", "draft", "401 404 204 404 404 404 404 204 204"),
    Attempt("DELETE /api/posts/{id}/", "published", "401 403 204 403 403 403 403 204 204"),
    Attempt("POST /api/posts/{id}/publish/", "draft", "401 404 200 404 404 404 404 200 200"),
    Attempt("POST /api/posts/{id}/publish/", "published", "401 403 200 403 403 403 403 200 200"),
    Attempt("POST /api/posts/{id}/cover/", "draft", "401 404 202 404 404 404 404 202 202", picture()),
    Attempt("PUT /api/posts/{id}/cover/", "published", "401 403 202 403 403 403 403 202 202", picture()),
    Attempt("DELETE /api/posts/{id}/cover/", "published", "401 403 204 403 403 403 403 204 204"),
    Attempt("GET /api/posts/{id}/notification/", "published", "401 403 200 403 403 403 403 200 200"),
    Attempt("GET /api/posts/{id}/notification/", "draft", "404 404 404 404 404 404 404 404 404"),
    Attempt("POST /api/posts/{id}/notification/", "published", "401 403 202 403 403 403 403 202 202"),
    Attempt("GET /api/reports/", "", "401 200 200 200 200 200 200 200 200"),
    Attempt("POST /api/reports/", "", "401 202 202 202 202 202 202 202 202", ACTIVITY),
    Attempt("POST /api/reports/", "", "401 403 403 403 403 403 403 403 202", SUBSCRIBERS),
    Attempt("GET /api/reports/{id}/", "failed_report", "401 404 200 404 404 404 404 404 200"),
    Attempt("GET /api/reports/{id}/", "subscribers_report", "401 404 404 404 404 404 404 404 200"),
    Attempt("DELETE /api/reports/{id}/", "failed_report", "401 404 204 404 404 404 404 404 204"),
    Attempt("DELETE /api/reports/{id}/", "subscribers_report", "401 404 404 404 404 404 404 404 204"),
    Attempt("POST /api/reports/{id}/retry/", "failed_report", "401 404 202 404 404 404 404 404 202"),
    Attempt("POST /api/reports/{id}/retry/", "subscribers_report", "401 404 404 404 404 404 404 404 409"),
    Attempt("GET /api/reports/download/{token}/", "", "404 404 404 404 404 404 404 404 404"),
    Attempt("POST /api/subscriptions/", "", "202 202 202 202 202 202 202 202 202", SUBSCRIBE),
    Attempt("GET /api/subscriptions/", "", "401 200 200 200 200 200 200 200 200"),
    Attempt("GET /api/subscriptions/count/", "", "401 200 200 200 200 200 200 200 200"),
    Attempt("GET /api/tasks/", "", "401 200 200 200 200 200 200 200 200"),
    Attempt("GET /api/tasks/{id}/", "ordered_run", "401 404 200 404 404 200 200 404 200"),
    Attempt("GET /api/tasks/{id}/", "sites_run", "401 404 200 404 404 200 200 404 200"),
    Attempt("POST /api/tasks/{id}/cancel/", "ordered_run", "401 404 202 404 404 403 202 404 202"),
    Attempt("POST /api/tasks/{id}/cancel/", "sites_run", "401 404 403 404 404 403 202 404 202"),
    Attempt("POST /api/tasks/{id}/cancel/", "dead_run", "401 404 409 404 404 403 409 404 409"),
    Attempt("POST /api/tasks/{id}/retry/", "dead_run", "401 403 403 403 403 403 202 403 202"),
    Attempt("POST /api/tasks/{id}/retry/", "ordered_run", "401 403 403 403 403 403 409 403 409"),
    Attempt("GET /api/pauses/", "", "401 403 403 403 403 200 200 403 200"),
    Attempt("POST /api/pauses/", "", "401 403 403 403 403 403 201 403 201", {"kind": "queue", "name": "emails"}),
    Attempt("POST /api/pauses/", "", "401 403 403 403 403 403 409 403 409", {"kind": "queue", "name": "reports"}),
    Attempt("POST /api/pauses/", "", "401 403 403 403 403 403 400 403 400", {"kind": "key", "name": "reports"}),
    Attempt("GET /api/pauses/{id}/", "pause", "401 403 403 403 403 200 200 403 200"),
    Attempt("DELETE /api/pauses/{id}/", "pause", "401 403 403 403 403 403 204 403 204"),
    Attempt("GET /api/limits/", "", "401 403 403 403 403 200 200 403 200"),
    Attempt("GET /api/limits/{id}/", "limit", "401 403 403 403 403 200 200 403 200"),
    Attempt("PATCH /api/limits/{id}/", "limit", "401 403 403 403 403 403 200 403 200", {"rate": "5/10s"}),
    Attempt("PATCH /api/limits/{id}/", "limit", "401 403 403 403 403 403 400 403 400", {"concurrency": 0}),
    Attempt("POST /api/limits/{id}/reset/", "limit", "401 403 403 403 403 403 409 403 409"),
    Attempt("GET /api/task-actions/", "", "401 200 200 200 200 200 200 200 200"),
    Attempt("POST /api/task-actions/", "", "401 202 202 202 202 202 202 202 202", CANCEL),
    Attempt("POST /api/task-actions/", "", "401 403 403 403 403 403 202 403 202", RUN_AGAIN),
    Attempt("POST /api/task-actions/", "", "401 403 403 403 403 403 202 403 202", MOVE),
    Attempt("POST /api/task-actions/", "", "401 403 403 403 403 403 400 403 400", MOVE | {"queue": "nowhere"}),
    Attempt("POST /api/task-actions/", "", "401 400 400 400 400 400 400 400 400", CANCEL | {"filter": {}}),
    Attempt("GET /api/task-actions/{id}/", "action", "401 404 404 404 404 200 200 404 200"),
    Attempt("POST /api/task-actions/{id}/cancel/", "action", "401 404 404 404 404 403 200 404 200"),
    Attempt("GET /api/schema/", "", "200 200 200 200 200 200 200 200 200"),
    Attempt("GET /api/docs/", "", "200 200 200 200 200 200 200 200 200"),
    Attempt("GET /api/redoc/", "", "200 200 200 200 200 200 200 200 200"),
]


def described() -> dict[str, Any]:
    """The OpenAPI document's operations."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not path.startswith(ELSEWHERE)
    }


def send(site: Site, role: str, method: str, url: str, body: Any = None, **headers: str) -> Any:
    if isinstance(body, bytes):
        return site.api(role).generic(method, url, body, content_type="image/png", **headers)
    data = "" if body is None else body if isinstance(body, str) else json.dumps(body)
    return site.api(role).generic(method, url, data, content_type="application/json", **headers)


def test_no_operation_is_forgotten() -> None:
    """A new endpoint needs a row. And there are enough of them."""
    assert described().keys() <= {one.operation for one in TABLE}
    assert sum(len(one.answers.split()) for one in TABLE) >= 400


@pytest.mark.parametrize("attempt", TABLE, ids=lambda one: f"{one.operation} {one.object}")
def test_each_role_is_answered_as_the_table_says(site: Site, attempt: Attempt) -> None:
    url = attempt.path.format(id=site.ids.get(attempt.object), token="forged")
    answers = []
    for role in ROLES:
        with undone():
            answers.append(send(site, role, attempt.method, url, attempt.body).status_code)
    assert dict(zip(ROLES, answers, strict=True)) == dict(zip(ROLES, map(int, attempt.answers.split()), strict=True))


def test_lists_show_what_may_be_seen_and_no_more(site: Site) -> None:
    seen = {
        (role, path): len(site.api(role).get(f"/api/{path}/").json()["results"])
        for role in ROLES
        for path in ("orders", "posts", "reports", "subscriptions", "tasks")
        if role != "stranger" or path == "posts"
    }
    mine = {"orders": 1, "posts": 2, "reports": 2, "subscriptions": 1, "tasks": TaskRun.objects.count()}
    for (role, path), number in seen.items():
        sees_all = {
            "orders": role in ("author", "superuser"),
            "posts": role in ("author", "editor", "superuser"),
            "reports": role in ("author", "superuser"),
            "subscriptions": role in ("author", "superuser"),
            "tasks": role in ("author", "viewer", "operator", "superuser"),
        }[path]
        others = 1 if path == "posts" else 0
        expected = mine[path] + (path == "reports" and role == "superuser") if sees_all else others
        assert number == expected, (role, path)


# ---- Odd inputs ----------------------------------------------------------------------------------------------------

BODIES = {
    "nothing": "", "half": "{", "null": "null", "a list": "[]", "a text": '"x"', "a number": "1e999", "NaN": "NaN",
    "empty": "{}", "NUL": '{"title":"\\u0000","body":"\\u0000","email":"\\u0000@x.kr","period":"\\u0000"}',
    "bell": '{"title":"\\u0007","body":"\\u0007","email":"\\u0007@x.kr","payment_method":"pm_\\u0007"}',
    "surrogate": '{"title":"\\ud800","body":"b","plan":"\\ud800"}',
    "types": '{"title":{},"body":[],"email":1,"plan":true,"type":{},"period":[],"payment_method":null}',
    "huge": json.dumps({"title": "x" * 100_000, "body": "x", "email": f"{'x' * 100_000}@example.com"}),
    "deep": '{"title":' + "[" * 5_000 + "]" * 5_000 + "}",
    "author": '{"author":"\\u0000","email":"a@example.com"}',
    "an author's surrogate": '{"author":"\\ud800","email":"a@example.com"}',
    "twice": '{"plan":"monthly","plan":"free","title":"a","title":""}',
    "not UTF-8": "\xff\xfe",
}  # fmt: skip
WRITES = sorted(key for key in {one.operation for one in TABLE} if key.split()[0] in ("POST", "PUT", "PATCH"))
KEYS = {"POST /api/posts/{id}/publish/": "draft", "POST /api/orders/{id}/pay/": "order"}


def object_of(operation: str) -> str:
    return next(one.object for one in TABLE if one.operation == operation)


@pytest.mark.parametrize("operation", WRITES)
def test_an_odd_body_is_no_500(site: Site, operation: str) -> None:
    method, path = operation.split()
    url = path.format(id=site.ids.get(object_of(operation)))
    for name, body in BODIES.items():
        for role in ("author", "superuser", "stranger"):
            with undone():
                answer = send(site, role, method, url, body)
            assert answer.status_code < 500, (name, role, answer.content)
            if answer.status_code >= 400:
                assert answer["Content-Type"] == "application/problem+json", (name, role)


IDS = ["0", "-1", "9" * 30, "x", "%00", "%07", "%ff", "%ED%A0%80", "..", "a" * 3000, "1;", "１", "{id}"]
WITH_ID = sorted({one.operation for one in TABLE if "{" in one.operation})


@pytest.mark.parametrize("operation", WITH_ID)
def test_an_odd_id_is_not_found(site: Site, operation: str) -> None:
    method, path = operation.split()
    before = path.partition("{")[0]
    after = path.partition("}")[2]
    for odd in IDS:
        for role in ("superuser", "author"):
            with undone():
                answer = send(site, role, method, f"{before}{odd}{after}", {"title": "t", "body": "b"})
            assert answer.status_code in (301, 400, 403, 404, 405, 415), (odd, role, answer.status_code)


QUERIES = ["page_size=x", "page_size=-1", f"page_size={'9' * 30}", "cursor=%00", "cursor=x", "cursor=%FF%FE", "q=%00",
           "q=%07", f"q={'x' * 5000}", "q=%22", "q=-", "status=%07", "status=x", "author=%00",
           "author=%07", "queue=x", "name=%00", "name=%07",
           "format=xml", "&&&=", "%00=%00"]  # fmt: skip


@pytest.mark.parametrize("path", [f"/api/{name}/" for name in ("posts", "orders", "reports", "subscriptions", "tasks")])
def test_an_odd_query_is_no_500(site: Site, path: str) -> None:
    for query in QUERIES:
        for role in ("author", "superuser"):
            assert send(site, role, "GET", f"{path}?{query}").status_code in (200, 400, 404), (query, role)


@pytest.mark.parametrize("key", ["", "\x07", "x" * 256, "ü", "a\tb"])
@pytest.mark.parametrize("operation", KEYS)
def test_an_odd_key_is_refused(site: Site, operation: str, key: str) -> None:
    method, path = operation.split()
    url = path.format(id=site.ids[KEYS[operation]])
    answer = send(site, "author", method, url, VISA, HTTP_IDEMPOTENCY_KEY=key)
    assert answer.status_code in (200, 202, 400)
