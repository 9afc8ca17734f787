"""gunicorn as deployed: streams of events beside other requests, and what becomes of a connection."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection

from app.accounts.models import User
from app.accounts.sign_in.tokens import AccessToken
from pressroom.enqueue.ownership import owned_by
from pressroom.models import TaskRun
from tests.support.probes import tasks
from tests.support.processes import Process, Stack
from tests.support.waiting import until

STREAM = {"Accept": "text/event-stream"}
LONG = "600"
"""Seconds that a stream lasts in these tests: nothing here ends because of it."""


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create_user("kim", "kim@example.com", "a-long-passphrase-1")


@pytest.fixture
def bearer(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {AccessToken.for_user(user)}"}


def web(stack: Stack, *arguments: str, **environment: str) -> tuple[Process, str]:
    """One process with the threads of gunicorn.conf.py, and its address."""
    command = [sys.executable, "-m", "gunicorn", "app.wsgi", "--bind", "127.0.0.1:0", *arguments]
    process = stack.start(
        [*command, "--worker-tmp-dir", str(stack.folder)], "Listening at",
        SECRET_KEY=settings.SECRET_KEY, EVENT_STREAM_LIFETIME=LONG, **environment,
    )  # fmt: skip
    found = re.search(r"Listening at:? .*?(http://127\.0\.0\.1:\d+)", process.output())
    assert found, process.output()
    return process, found[1]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_both_families_are_answered(stack: Stack) -> None:
    """The wildcard address of gunicorn.conf.py, on a free port."""
    process, _ = web(stack, "--bind", "[::]:0")
    [port] = re.findall(r"http://\[::\]:(\d+)", process.output())
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{port}/livez", trust_env=False).text == "alive\n"


def read(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream as they come."""
    event: dict[str, Any] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            event[name] = json.loads(value) if name == "data" else value
        elif "data" in event:
            yield event
            event = {}


def test_a_run_is_watched_until_it_has_ended(stack: Stack, user: User, bearer: dict[str, str], gate: Path) -> None:
    stack.relay()
    stack.worker()
    _, url = web(stack)
    with owned_by(user):
        run = TaskRun.of(tasks.steps.delay(3, str(gate)))
    address = f"{url}/api/tasks/{run.pk}/"
    with httpx.stream("GET", address, headers=bearer | STREAM, timeout=120, trust_env=False) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        seen = []
        for event in read(answer):
            seen.append(event)
            if event["data"]["progress"]["current"] == 2:
                gate.touch()
    assert seen[-1]["data"]["status"] == "succeeded"
    assert 2 in [event["data"]["progress"]["current"] for event in seen[:-1]]
    assert {event["data"]["name"] for event in seen} == {"probe.steps"}
    assert len({event["id"] for event in seen}) == len(seen)
    last = {"Last-Event-ID": seen[-1]["id"]}
    assert httpx.get(address, headers=bearer | STREAM | last, timeout=120, trust_env=False).status_code == 204


def in_transactions() -> int:
    """Sessions of others that sit in an open transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
        )
        return int(cursor.fetchall()[0][0])


def test_streams_leave_threads_for_others_and_end_with_their_process(
    stack: Stack, user: User, bearer: dict[str, str]
) -> None:
    """As many streams as one process has threads, and more: two stay open, the others are told the state and end."""
    process, url = web(stack, "--workers=1", "--graceful-timeout=120")
    with owned_by(user):
        run = TaskRun.of(tasks.effect.delay("/dev/null", "x"))
    address = f"{url}/api/tasks/{run.pk}/"
    first = threading.Semaphore(0)

    def watch(_: int) -> float:
        began = time.monotonic()
        with httpx.stream("GET", address, headers=bearer | STREAM, timeout=120, trust_env=False) as answer:
            for event in read(answer):
                assert event["data"]["status"] == "queued"
                first.release()
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(watch, number) for number in range(8)]
        for _ in streams:
            assert first.acquire(timeout=120)
        until(lambda: sum(stream.done() for stream in streams) == 6, "all but two have ended")
        for _ in range(20):
            assert httpx.get(address, headers=bearer, timeout=120, trust_env=False).status_code == 200
            assert in_transactions() == 0
        assert sum(stream.done() for stream in streams) == 6
        # Told to end, it does not wait for what would last ten minutes.
        assert process.stop() == 0
        assert all(stream.result(timeout=120) < float(LONG) for stream in streams)


@pytest.fixture
def talk(stack: Stack, transactional_db: None) -> Iterator[Callable[..., tuple[int, dict[str, str], bool]]]:
    """Sends bytes on a connection of its own; gives status, headers and whether the server closed it."""
    _, url = web(stack)
    host, port = url.removeprefix("http://").split(":")
    opened: list[socket.socket] = []

    def exchange(sent: bytes) -> tuple[int, dict[str, str], bool]:
        client = socket.create_connection((host, int(port)), timeout=120)
        opened.append(client)
        client.sendall(sent)
        answer = HTTPResponse(client)
        answer.begin()
        answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        client.settimeout(2 if headers["connection"] == "keep-alive" else 120)
        try:
            closed = client.recv(1) == b""
        except TimeoutError:
            closed = False
        return answer.status, headers, closed

    yield exchange
    for client in opened:
        client.close()


def post(path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    "sent",
    [
        # Announced, and not sent at all; sent; without an end.
        post("/api/auth/login/", "Content-Length: 2000000"),
        post("/api/auth/login/", "Content-Length: 2000000", body=b"x" * 2_000_000),
        post("/api/auth/login/", "Transfer-Encoding: chunked", body=b"1e8480\r\n" + b"x" * 2_000_000 + b"\r\n"),
    ],
    ids=["announced", "sent", "chunked"],
)
def test_after_a_body_that_is_too_large_it_closes_and_says_so(talk: Any, sent: bytes) -> None:
    status, headers, closed = talk(sent)
    assert (status, headers["content-type"]) == (413, "application/problem+json")
    assert (headers["connection"], closed) == ("close", True)


def test_what_a_connection_says_it_does(talk: Any) -> None:
    """After an error that read the whole request it stays open, as it says."""
    status, headers, closed = talk(post("/api/auth/login/", "Content-Length: 2", body=b"{}"))
    assert (status, headers["connection"], closed) == (400, "keep-alive", False)


@pytest.mark.parametrize("key", ["", "x" * 10_000, "\xe9", "a\tb"])
def test_an_odd_idempotency_key_is_a_problem_document(talk: Any, key: str) -> None:
    status, headers, _ = talk(post("/api/auth/register/", f"Idempotency-Key: {key}", "Content-Length: 2", body=b"{}"))
    assert (status, headers["content-type"]) == (400, "application/problem+json")


def test_without_its_last_slash_a_post_is_asked_for_again(talk: Any) -> None:
    status, headers, _ = talk(post("/api/auth/login", "Content-Length: 2", body=b"{}"))
    assert (status, headers["location"]) == (308, "/api/auth/login/")


def test_scripts_of_allowed_origins_may_call_the_api_and_no_others(stack: Stack, transactional_db: None) -> None:
    _, url = web(stack, CORS_ALLOWED_ORIGINS="https://app.example.com,http://localhost:3000")
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        ours, theirs = {"Origin": "https://app.example.com"}, {"Origin": "https://app.example.com.evil.example"}
        asks = {
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, if-match",
        }
        preflight = client.options("/api/posts/1/", headers=ours | asks)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == ours["Origin"]
        allowed = preflight.headers["Access-Control-Allow-Headers"].split(", ")
        assert set(asks["Access-Control-Request-Headers"].split(", ")) <= set(allowed)
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        # Errors of every layer are for the script to read, too.
        for path, status in (
            ("/api/posts/", 200),
            ("/api/nowhere/", 404),
            ("/api/tasks/", 401),
            ("/api/posts/?x=1", 400),
        ):
            answer = client.get(path, headers=ours)
            assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, ours["Origin"])
            assert {"ETag", "Location", "Retry-After"} <= set(
                answer.headers["Access-Control-Expose-Headers"].split(", ")
            )
            assert "Access-Control-Allow-Credentials" not in answer.headers
        too_large = client.post("/api/auth/login/", content=b"x" * 2_000_000, headers=ours)
        assert (too_large.status_code, too_large.headers["Access-Control-Allow-Origin"]) == (413, ours["Origin"])
        for path, headers in (("/api/posts/", theirs), ("/", ours), ("/admin/login/", ours), ("/api/posts/", {})):
            assert "Access-Control-Allow-Origin" not in client.get(path, headers=headers).headers
