"""Bad requests: each a 4xx problem document, none a 500, nothing stored."""

from __future__ import annotations

import datetime
import json
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.test import Client

from app.accounts.models import User
from pressroom.enqueue.ownership import owned_by
from pressroom.models import IdempotencyKey, TaskRun
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db

AUTH = "/api/auth/"
REGISTER, LOGIN, REFRESH, LOGOUT, ME = (f"{AUTH}{name}/" for name in ("register", "login", "refresh", "logout", "me"))
TASKS = "/api/tasks/"
UNKNOWN_RUN = f"{TASKS}01900000-0000-7000-8000-000000000000/"
GOOD = {"username": "kim", "email": "kim@example.com", "password": "a-long-passphrase-1"}
DEEP = "[" * 50_000 + "]" * 50_000


def body(**change: Any) -> str:
    return json.dumps(GOOD | change)


# Method, address ({run}: another's run), body, expected status; as a signed-in user.
SIGNED_IN: list[tuple[str, str, str, int]] = [
    ("GET", "{run}", "", 404),
    ("POST", "{run}cancel/", "", 404),
    ("POST", "{run}retry/", "", 403),
    ("GET", UNKNOWN_RUN, "", 404),
    ("POST", f"{UNKNOWN_RUN}cancel/", "", 404),
    ("DELETE", UNKNOWN_RUN, "", 405),
    ("POST", TASKS, "{}", 405),
    ("GET", f"{TASKS}not-a-uuid/", "", 404),
    ("GET", f"{TASKS}%00/", "", 404),
    ("GET", f"{TASKS}?status=nonsense", "", 400),
    ("GET", f"{TASKS}?queue=nowhere", "", 400),
    ("GET", f"{TASKS}?name=%00", "", 400),
    ("GET", f"{TASKS}?cursor=%F0%9F", "", 404),
    ("GET", "/api/", "", 404),
    ("GET", "/api/tasks/../../etc/passwd", "", 404),
]

ANONYMOUS: list[tuple[str, str, str, int]] = [
    ("POST", REGISTER, "{}", 400),
    ("POST", REGISTER, body(username="a" * 151), 400),
    ("POST", REGISTER, body(username="with space"), 400),
    ("POST", REGISTER, body(username="nul\x00"), 400),
    ("POST", REGISTER, body(username={"$ne": ""}), 400),
    ("POST", REGISTER, body(email="no address"), 400),
    ("POST", REGISTER, body(email=f"{'a' * 300}@example.com"), 400),
    ("POST", REGISTER, body(email="a@b@c"), 400),
    ("POST", REGISTER, body(password="short"), 400),
    ("POST", REGISTER, body(password="12345678901234"), 400),
    ("POST", REGISTER, body(password="x" * 129), 400),
    ("POST", REGISTER, body(password=12345678), 400),
    ("POST", REGISTER, DEEP, 400),
    ("GET", REGISTER, "", 405),
    ("POST", LOGIN, "{}", 400),
    ("POST", LOGIN, '{"username": "kim", "password": "wrong"}', 401),
    ("POST", LOGIN, '{"username": "nul\\u0000", "password": "x"}', 400),
    ("POST", REFRESH, '{"refresh": "x"}', 401),
    ("POST", REFRESH, '{"refresh": null}', 400),
    ("POST", LOGOUT, '{"refresh": "a.b.c"}', 401),
    ("POST", LOGOUT, "{}", 400),
    ("GET", ME, "", 401),
    ("GET", TASKS, "", 401),
    ("GET", UNKNOWN_RUN, "", 401),
]


def token(**change: Any) -> str:
    """An access token of user 1, forged or out of date by ``change``."""
    now = datetime.datetime.now(datetime.UTC)
    claims = {"token_type": "access", "user_id": "1", "jti": "1", "exp": now + datetime.timedelta(hours=1), "iat": now}
    key = change.pop("key", settings.SECRET_KEY)
    algorithm = change.pop("algorithm", "HS256")
    return jwt.encode(claims | change, key if algorithm != "none" else "", algorithm=algorithm)


def forged() -> dict[str, str]:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    return {
        "expired": token(exp=past),
        "another key": token(key="k" * 50),
        "no signature": token(algorithm="none"),
        "a refresh token": token(token_type="refresh"),
        "nobody": token(user_id="999999"),
        "no number": token(user_id="x"),
        "nothing": "",
        "no token": "abc",
        "bytes": "\x80\xff",
    }


def check(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.content[:300]
    assert answer["Content-Type"] == "application/problem+json"
    document = json.loads(answer.content)
    assert document["status"] == status
    assert document["detail"]


def counts() -> list[int]:
    return [model.objects.count() for model in (User, TaskRun, IdempotencyKey)]


@pytest.fixture
def foreign_run(author: User) -> str:
    """The address of what the author has and the reader has not."""
    with owned_by(author):
        return f"{TASKS}{TaskRun.of(tasks.effect.delay('/dev/null', 'x')).pk}/"


def send(client: Client, method: str, url: str, text: str, **extra: Any) -> Any:
    return client.generic(method, url, text.encode("utf-8", "surrogatepass"), "application/json", **extra)


@pytest.mark.parametrize(("method", "url", "text", "status"), SIGNED_IN, ids=lambda value: str(value)[:40])
def test_signed_in(foreign_run: str, as_reader: Any, method: str, url: str, text: str, status: int) -> None:
    before = counts()
    as_reader.raise_request_exception = False
    check(send(as_reader, method, url.replace("{run}", foreign_run), text), status)
    assert counts() == before


@pytest.mark.parametrize(("method", "url", "text", "status"), ANONYMOUS, ids=lambda value: str(value)[:40])
def test_anonymous(method: str, url: str, text: str, status: int) -> None:
    check(send(Client(raise_request_exception=False), method, url, text), status)
    assert counts() == [0, 0, 0]


@pytest.mark.parametrize("kind", sorted(["expired", "another key", "no signature", "a refresh token", "nobody",
                                         "no number", "nothing", "no token", "bytes"]))  # fmt: skip
def test_tokens(reader: User, kind: str) -> None:
    answer = send(Client(raise_request_exception=False), "GET", ME, "", HTTP_AUTHORIZATION=f"Bearer {forged()[kind]}")
    check(answer, 401)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""])
def test_other_content_types(content_type: str) -> None:
    client = Client(raise_request_exception=False)
    check(client.generic("POST", REGISTER, body().encode(), content_type), 415)
    assert not User.objects.exists()
