"""What a task returned, raised, said or was given is shown, whatever it is: one odd run spoils no list for others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from app.accounts.models import User
from pressroom.enqueue.ownership import owned_by
from pressroom.http.subjects import subjects
from pressroom.models import TaskRun
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db

HALF = '"\\ud83d"'
DEEP = "[" * 100_000 + "]" * 100_000
RESULTS = {
    "NaN": "NaN", "infinity": "[Infinity, -Infinity]", "half a pair": HALF, "half a pair as a name": f"{{{HALF}: 1}}",
    "NUL": '"\\u0000"', "controls": '"\\u0007\\u001b[31m"', "deep": DEEP, "a long number": "1" * 5_000,
    "a large number": "1e400", "no JSON": "{", "an address that is none": '{"url": "http://[bad"}',
    "a path that is none": '{"url": "//[bad"}', "another site": '{"url": "//evil.example/"}',
    "a script": '{"url": "javascript:alert(1)"}', "a number as address": '{"url": 7}',
    "half a pair in an address": f'{{"url": "/{HALF[1:-1]}"}}', "a large text": json.dumps("x" * 2_000_000),
}  # fmt: skip
BODIES = {
    "half a pair": f"[[{HALF}], {{{HALF}: {HALF}}}, {{}}]", "NaN": "[[NaN], {}, {}]", "NUL": '[["\\u0000"], {}, {}]',
    "deep": f"[[{DEEP}], {{}}, {{}}]", "a long number": f"[[{'1' * 5_000}], {{}}, {{}}]", "no JSON": "[[",
    "no call": "7", "too short": "[[]]", "arguments of another kind": '[7, "x", null]', "empty": "",
}  # fmt: skip
HEADERS = {
    "half a pair": f'{{"group": {HALF}, "parent_id": {HALF}, "origin": {HALF}, "periodic_task_name": {HALF}}}',
    "a request's id": f'{{"__django_structlog__": {{"request_id": {HALF}}}}}', "a list": "[]", "no JSON": "{",
    "other kinds": '{"group": [1], "parent_id": {}, "timelimit": ["x", []], "__django_structlog__": 7, "origin": 1}',
    "limits": '{"timelimit": 7}', "limits that are none": '{"timelimit": [NaN, Infinity]}', "deep": DEEP,
    "NUL": '{"group": "\\u0000", "parent_id": "\\u0000"}',
}  # fmt: skip


def rows() -> dict[str, dict[str, Any]]:
    """The columns of odd runs, by what is odd about each."""
    odd: dict[str, dict[str, Any]] = {}
    odd |= {f"result: {name}": {"status": "succeeded", "result": result} for name, result in RESULTS.items()}
    odd |= {f"arguments: {name}": {"body": body} for name, body in BODIES.items()}
    odd |= {f"headers: {name}": {"headers": headers} for name, headers in HEADERS.items()}
    odd["error"] = {
        "status": "dead", "error_type": "\x1b]0;x\x07", "error": "\u202e\ufffe\x07", "traceback": "\x1b[2J",
    }  # fmt: skip
    odd["progress"] = {"progress_message": "\x07\u2028", "progress_total": 5, "progress_current": None}
    odd["progress beyond"] = {"progress_current": 2**63 - 1, "progress_total": -1}
    odd["name"] = {"name": "a\nb\x07<script>" + "x" * 5_000}
    return odd


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", "root@example.com", "a-long-passphrase-1")


@pytest.fixture
def client(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def odd_run(owner: User, columns: dict[str, Any]) -> TaskRun:
    with owned_by(owner):
        run = TaskRun.of(tasks.effect.delay("/dev/null", "x"))
    change_run(run.pk, **columns)
    return TaskRun.objects.get(pk=run.pk)


@pytest.mark.parametrize("name", sorted(rows()))
def test_it_is_shown(root: User, client: Client, name: str) -> None:
    run = odd_run(root, rows()[name])
    for url in ("/api/tasks/", f"/api/tasks/{run.pk}/"):
        answer = client.get(url)
        assert answer.status_code == 200, answer.content[:300]
        # Strictly: neither NaN nor half a surrogate pair is JSON that others read.
        json.loads(answer.content.decode(), parse_constant=pytest.fail)
        assert "\\ud83d" not in answer.content.decode()
    for url in ("tasks/", f"tasks/{run.pk}/", *(["dead-letters/"] if "status" in rows()[name] else [])):
        page = client.get(f"/admin/operations/{url}")
        assert page.status_code == 200, url
        assert "\x07" not in page.content.decode()
        assert "\x1b" not in page.content.decode()


def test_a_list_of_all_of_them_is_shown(root: User, client: Client) -> None:
    for columns in rows().values():
        odd_run(root, columns)
    answer = client.get("/api/tasks/?page_size=100")
    assert len(answer.json()["results"]) == len(rows())
    assert client.get("/admin/operations/tasks/").status_code == 200


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ("NaN", None),
        ("[1, Infinity]", [1, None]),
        (HALF, "\ufffd"),
        ("1e400", None),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_what_json_cannot_hold_is_replaced(root: User, client: Client, result: str, shown: Any) -> None:
    run = odd_run(root, {"status": "succeeded", "result": result})
    assert client.get(f"/api/tasks/{run.pk}/").json()["result"] == shown


@pytest.mark.parametrize("name", [name for name, result in RESULTS.items() if '"url"' in result])
def test_no_address_but_one_of_this_site_is_a_result_url(root: User, client: Client, name: str) -> None:
    run = odd_run(root, {"status": "succeeded", "result": RESULTS[name]})
    url = client.get(f"/api/tasks/{run.pk}/").json()["result_url"]
    assert url is None or url.startswith("http://testserver/"), url


@pytest.mark.parametrize(
    "argument", ['"abc"', HALF, '"\\u0000"', '"a/b"', '""', "true", "1e400", str(10**30), "{}", "-1"]
)
def test_what_is_no_key_of_an_object_is_about_none(root: User, client: Client, argument: str) -> None:
    for name in subjects():
        odd_run(root, {"name": name, "body": f"[[{argument}], {{}}, {{}}]"})
        odd_run(root, {"name": name, "body": f'[[], {{"key": {argument}}}, {{}}]'})
    answer = client.get("/api/tasks/?page_size=100")
    assert answer.status_code == 200
    for run in answer.json()["results"]:
        assert run["about"] is None or client.get(run["about"]["url"]).status_code == 404
