"""Errors of the API: problem documents, never a 500, nothing stored."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from pressroom.enqueue.ownership import owned_by
from pressroom.models import TaskRun
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks
from tests.unit.conftest import permit

pytestmark = pytest.mark.django_db

REGISTER, LOGIN, TASKS = "/api/auth/register/", "/api/auth/login/", "/api/tasks/"


@pytest.mark.parametrize(
    ("method", "url", "body", "content_type", "status"),
    [
        ("post", REGISTER, b"{", "application/json", 400),
        ("post", REGISTER, b"[]", "application/json", 400),
        ("post", REGISTER, b"\xff\xfe", "application/json", 400),
        ("post", REGISTER, b"null", "application/json", 400),
        ("post", REGISTER, b"a=b", "application/x-www-form-urlencoded", 415),
        ("post", REGISTER, b"<a/>", "text/xml", 415),
        ("post", REGISTER, b"[" * 100_000, "application/json", 400),
        ("post", REGISTER, b'{"username": "\\ud800"}', "application/json", 400),
        ("post", REGISTER, b'{"username": "' + b"a" * 2_000_000 + b'"}', "application/json", 413),
        ("delete", REGISTER, b"", "application/json", 405),
        ("get", "/api/nowhere/", b"", "application/json", 404),
        ("get", f"{TASKS}99999999999999999999/", b"", "application/json", 404),
        ("get", "/api/tasks/nonsense/", b"", "application/json", 404),
        ("get", "/api/tasks/01900000-0000-7000-8000-000000000000/", b"", "application/json", 401),
        ("get", TASKS, b"", "application/json", 401),
    ],
)
def test_bad_requests(method: str, url: str, body: bytes, content_type: str, status: int) -> None:
    client = Client(raise_request_exception=False)
    answer = client.generic(method.upper(), url, body, content_type=content_type)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    document = json.loads(answer.content)
    assert (document["status"], document["instance"]) == (status, url)
    assert document["detail"]
    assert not TaskRun.objects.exists()


def test_a_chunked_body_is_limited_too() -> None:
    from io import BytesIO

    answer = Client().generic(
        "POST", REGISTER, content_type="application/json",
        **{"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "", "wsgi.input": BytesIO(b"a" * 2_000_000)},
    )  # fmt: skip
    assert answer.status_code == 413


def test_without_postgres_it_is_503_with_retry_after(anonymous: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    anonymous.raise_request_exception = False
    answer = anonymous.post(LOGIN, {"username": "kim", "password": "a-long-passphrase-1"})
    monkeypatch.undo()
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert int(answer["Retry-After"]) > 0


class TestTasks:
    def test_a_run_is_for_owner_and_operators(self, as_author: Any, as_reader: Any, author: Any, reader: Any) -> None:
        with owned_by(author):
            run = TaskRun.of(tasks.effect.delay("a", "b"))
        url = f"/api/tasks/{run.pk}/"
        mine = as_author.get(url)
        assert mine.status_code == 200
        assert mine["Retry-After"] == "1"
        assert mine.json()["progress"] == {"current": None, "total": None, "message": ""}
        assert as_reader.get(url).status_code == 404
        reader.is_staff = True
        reader.save()
        assert as_reader.get(url).status_code == 404, "to be staff is not enough"
        permit(reader, "operations.view_operations")
        assert as_reader.get(url).status_code == 200
        nobodys = TaskRun.of(tasks.effect.delay("a", "b"))
        assert as_author.get(f"/api/tasks/{nobodys.pk}/").status_code == 404

    def test_a_dead_run_is_failed_with_its_error(self, as_author: Any, author: Any) -> None:
        with owned_by(author):
            run = TaskRun.of(tasks.effect.delay("a", "b"))
        change_run(run.pk, status="dead", error_type="KeyError", error="'x'", attempt=2)
        document = as_author.get(f"/api/tasks/{run.pk}/").json()
        assert (document["status"], document["attempts"]) == ("failed", 2)
        assert document["error"] == {"type": "KeyError", "detail": "'x'"}
        assert document["result"] is None


def test_the_documents_load_nothing_from_elsewhere(anonymous: APIClient) -> None:
    for url in ("/api/docs/", "/api/redoc/"):
        answer = anonymous.get(url, HTTP_ACCEPT="text/html")
        assert answer.status_code == 200
        assert answer["Content-Security-Policy"].startswith("default-src 'self';")
