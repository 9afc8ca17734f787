"""Calls to other services, which fail in all their ways; real workers stand in tests/reliability."""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from typing import Any

import pytest
from django.test import Client

from app.accounts.models import User
from app.checks import external_services as checks
from app.integrations import services
from app.integrations.guard import Refused
from app.integrations.models import Ping
from app.integrations.services import Unavailable, external_get, retry_after, slack_post
from tests.support.web import Asked, Exchange, Web, web
from tests.unit.test_checks import ids

HERE = [ipaddress.ip_network("127.0.0.1/32")]


@pytest.fixture
def server() -> Iterator[Web]:
    with web(lambda exchange, asked: exchange.reply(200, b"hello")) as server:
        yield server


def endless(exchange: Exchange, asked: Asked) -> None:
    exchange.send_response(302 if asked.path == "/redirect" else 200)
    exchange.send_header("Location", "/")
    exchange.end_headers()
    while not exchange.server.closing.is_set():
        exchange.wfile.write(b"x" * 65536)


def endless_head(exchange: Exchange, asked: Asked) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not exchange.server.closing.is_set():
        exchange.wfile.write(b"X-More: and more\r\n")


def drip(exchange: Exchange, asked: Asked) -> None:
    """One byte at a time, each well within what a single read may take."""
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if asked.path == "/body" else b"X-Slow: "))
    while not exchange.server.closing.wait(0.05):
        exchange.wfile.write(b"x")


@pytest.mark.parametrize(
    ("fault", "path", "reason"),
    [
        (lambda exchange, asked: exchange.reply(500), "/", "answered with 500"),
        (lambda exchange, asked: exchange.reply(503), "/", "answered with 503"),
        (lambda exchange, asked: exchange.reply(429), "/", "answered with 429"),
        (lambda exchange, asked: exchange.reset(), "/", "ReadError|RemoteProtocolError"),
        (lambda exchange, asked: exchange.hang(), "/", "ReadTimeout"),
        (drip, "/body", "ReadTimeout"),
        (drip, "/head", "ReadTimeout"),
    ],
)
def test_what_may_work_later(server: Web, fault: Callable[..., None], path: str, reason: str) -> None:
    server.answer = fault
    began = time.monotonic()
    with pytest.raises(Unavailable, match=reason):
        external_get(url=server.url + path, allowed=HERE, total=1.0)
    assert time.monotonic() - began < 10


def test_nobody_listens() -> None:
    with web(lambda exchange, asked: None) as gone:
        url = gone.url
    with pytest.raises(Unavailable, match="ConnectError"):
        external_get(url=url, allowed=HERE)


@pytest.mark.parametrize(
    ("fault", "path", "reason"),
    [
        (lambda exchange, asked: exchange.reply(404), "/", "answered with 404"),
        (lambda exchange, asked: exchange.reply(401), "/", "answered with 401"),
        (lambda exchange, asked: exchange.reply(304), "/", "answered with 304"),
        (lambda exchange, asked: exchange.reply(200, b"x" * 70_000), "/", "larger than 65536 bytes"),
        (endless, "/", "larger than 65536 bytes"),
        (endless, "/redirect", "larger than 65536 bytes"),
        (endless_head, "/", "larger than 65536 bytes"),
    ],
)
def test_what_will_not_work_later_either(server: Web, fault: Callable[..., None], path: str, reason: str) -> None:
    server.answer = fault
    with pytest.raises(Refused, match=reason):
        external_get(url=server.url + path, allowed=HERE, largest=65536)


def test_an_answer_within_the_limit(server: Web) -> None:
    server.answer = lambda exchange, asked: exchange.reply(200, b"x" * 60_000)
    answer = external_get(url=server.url, allowed=HERE, largest=65536)
    assert (answer.status, len(answer.body)) == (200, 60_000)
    assert 0 < answer.seconds < 30
    assert server.asked[0].headers["accept-encoding"] == "identity"


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("86400", 600, 600),
        (300, 200, 300),
        (86400, 600, 600),
        (-300, 0, 0),
    ],
)
def test_retry_after(server: Web, header: str | int, least: float, most: float) -> None:
    """A number stands for a date so many seconds from now."""
    wait = header if isinstance(header, str) else in_seconds(header)
    server.answer = lambda exchange, asked: exchange.reply(429, Retry_After=wait)
    with pytest.raises(Unavailable) as told:
        external_get(url=server.url, allowed=HERE)
    assert told.value.retry_after is not None
    assert least <= told.value.retry_after <= most


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5", "Wed, 99 Foo 2026 00:00:00 GMT",
                                    "Mon, 01 Jan 2024 00:00:00 +99999999999999"])  # fmt: skip
def test_a_retry_after_that_says_nothing(header: str | None) -> None:
    assert retry_after(header) is None


# ---- Slack -----------------------------------------------------------------------------------------------------------


def test_slack_is_off_without_an_address(settings: Any) -> None:
    settings.SLACK_WEBHOOK_URL = ""
    assert slack_post(text="hello") is False


def test_slack_is_told_in_plain_text(server: Web, settings: Any) -> None:
    settings.SLACK_WEBHOOK_URL = f"{server.url}/services/T0/B0/x"
    server.answer = lambda exchange, asked: exchange.reply(200, b"ok")
    assert slack_post(text="한국어 <!channel> & <https://x.example|x>") is True
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/services/T0/B0/x")
    assert json.loads(asked.body)["text"] == "한국어 &lt;!channel&gt; &amp; &lt;https://x.example|x&gt;"


@pytest.mark.parametrize(
    ("fault", "error", "wait"),
    [
        (lambda exchange, asked: exchange.reply(429, b"rate_limited", Retry_After="30"), Unavailable, 30),
        (lambda exchange, asked: exchange.reply(500, b"server_error"), Unavailable, None),
        (lambda exchange, asked: exchange.reset(), Unavailable, None),
        (lambda exchange, asked: exchange.reply(404, b"no_service"), Refused, None),
        (lambda exchange, asked: exchange.reply(403, b"invalid_token"), Refused, None),
    ],
)
def test_slack_fails(
    server: Web, settings: Any, fault: Callable[..., None], error: type[Exception], wait: float | None
) -> None:
    settings.SLACK_WEBHOOK_URL = f"{server.url}/services/secret"
    server.answer = fault
    with pytest.raises(error) as told:
        slack_post(text="hello")
    assert getattr(told.value, "retry_after", None) == wait
    assert "secret" not in str(told.value)
    assert len(server.asked) == 1


# ---- Pings -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_pings_are_noted_and_those_no_longer_wanted_forgotten(server: Web, settings: Any) -> None:
    settings.EXTERNAL_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    settings.PING_URLS = []
    assert services.pings_run() == 0

    server.answer = lambda exchange, asked: exchange.reply(200 if asked.path == "/up" else 503)
    up, down, forbidden = f"{server.url}/up", f"{server.url}/down", f"http://127.0.0.2:{server.port}/"
    settings.PING_URLS = [up, down, forbidden, up]
    assert services.pings_run() == 3
    found = {ping.url: ping for ping in Ping.objects.all()}
    assert (found[up].status, found[up].error) == (200, "")
    assert found[up].latency_ms is not None
    assert (found[down].status, found[down].error) == (503, "")
    assert found[forbidden].status is None
    assert "not a public address" in found[forbidden].error

    server.answer = lambda exchange, asked: exchange.reply(503)
    settings.PING_URLS = [up]
    assert services.pings_run() == 1
    ping = Ping.objects.get()
    assert (ping.url, ping.status) == (up, 503)
    assert ping.checked_at >= found[up].checked_at


@pytest.mark.django_db
def test_pings_in_the_admin_are_only_looked_at(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root", "root@example.com", "a-long-passphrase-1"))
    ping = Ping.objects.create(url="https://x.example/", status=200, checked_at=datetime.datetime.now(datetime.UTC))
    assert b"https://x.example/" in client.get("/admin/integrations/ping/").content
    assert client.get(f"/admin/integrations/ping/{ping.pk}/change/").status_code == 200
    assert client.post(f"/admin/integrations/ping/{ping.pk}/change/", {"url": "x"}).status_code == 403
    assert client.get("/admin/integrations/ping/add/").status_code == 403


@pytest.mark.parametrize(
    ("name", "value", "local", "expected"),
    [
        ("EXTERNAL_ALLOWED_NETWORKS", [], False, []),
        ("EXTERNAL_ALLOWED_NETWORKS", ["127.0.0.1/32"], True, []),
        ("EXTERNAL_ALLOWED_NETWORKS", ["10.0.0.0/8", "fd00::/8"], False, ["pressroom.W031"]),
        ("EXTERNAL_ALLOWED_NETWORKS", ["10.0.0.1/8"], True, ["pressroom.E030"]),
        ("EXTERNAL_ALLOWED_NETWORKS", ["somewhere"], True, ["pressroom.E030"]),
        ("PING_URLS", ["https://x.example/"], False, []),
        ("PING_URLS", ["x.example", "ftp://x.example", "http://[x"], False, ["pressroom.E032"] * 3),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/x", False, []),
        ("SLACK_WEBHOOK_URL", "http://127.0.0.1/x", True, []),
        ("SLACK_WEBHOOK_URL", "http://hooks.slack.com/services/x", False, ["pressroom.E033"]),
        ("SLACK_WEBHOOK_URL", "https://[x", False, ["pressroom.E033"]),
    ],
)
def test_settings_that_are_wrong(settings: Any, name: str, value: Any, local: bool, expected: list[str]) -> None:
    settings.LOCAL = local
    setattr(settings, name, value)
    assert ids(checks.external_calls()) == expected
