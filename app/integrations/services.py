"""Calls to other services. This module does not know Celery: the exception says whether a retry makes sense."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.error import URLError

import httpcore
import httpx
from django.conf import settings
from django.utils import timezone
from slack_sdk.webhook import WebhookClient

from app.integrations.guard import Budget, GuardedBackend, Network, Refused, Resolve, system_resolve
from app.integrations.models import Ping
from pressroom.text import carried

TOTAL = 30.0
"""Maximum duration of a call in seconds, including redirects."""
LARGEST = 1024 * 1024
"""Maximum size of an answer in bytes, including headers and redirects."""
REDIRECTS = 5
LONGEST_WAIT = 600.0
"""Maximum wait in seconds before a retry, whatever Retry-After says."""
PINGS_AT_ONCE = 8
PING_TOTAL = 10.0


class Unavailable(Exception):
    """The call failed now but may succeed later: after ``retry_after`` seconds, if the other side has said so."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call."""

    status: int
    body: bytes
    seconds: float
    """Time from the call to the last byte."""
    retry_after: float | None
    """Seconds from the Retry-After header, if the answer has one."""


class _GuardedTransport(httpx.HTTPTransport):
    """httpx's transport with connections through the guard. httpx has no parameter for this, so a test checks it."""

    def __init__(self, backend: GuardedBackend) -> None:
        super().__init__(verify=_ssl_context())
        self._pool = httpcore.ConnectionPool(ssl_context=_ssl_context(), network_backend=backend)


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def allowed_networks() -> list[Network]:
    """Return EXTERNAL_ALLOWED_NETWORKS: networks that may be called although they are not public. Raises ValueError."""
    return [ipaddress.ip_network(text) for text in settings.EXTERNAL_ALLOWED_NETWORKS]


def external_get(*, url: str, **limits: Any) -> Answer:
    """GET a URL that users have chosen and expect success. ``limits`` are those of `external_fetch`.

    Raises Unavailable for connection errors, time-outs, 429 and 5xx. Raises Refused for forbidden addresses, for
    answers that are too large, and for all other statuses that are not a success.
    """
    answer = external_fetch(url=url, **limits)
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= 500:
        raise Unavailable(f"answered with {answer.status}", answer.retry_after)
    if not 200 <= answer.status < 300:
        raise Refused(f"answered with {answer.status}")
    return answer


def external_fetch(
    *,
    url: str,
    allowed: Sequence[Network] | None = None,
    resolve: Resolve = system_resolve,
    total: float = TOTAL,
    largest: int = LARGEST,
) -> Answer:
    """GET a URL on a public address and return the answer, whatever its status.

    ``total`` limits the seconds, ``largest`` the bytes. ``allowed`` lists networks that may be called as well; the
    default comes from the settings. Raises Unavailable for connection errors and time-outs. Raises Refused for
    addresses and URLs that may not be called, including those of redirects, and for answers that are too large.
    """
    began = time.monotonic()
    backend = GuardedBackend(
        allowed=allowed_networks() if allowed is None else allowed,
        budget=Budget(seconds=total, size=largest),
        resolve=resolve,
    )
    client = httpx.Client(
        transport=_GuardedTransport(backend), trust_env=False, timeout=total, follow_redirects=True,
        max_redirects=REDIRECTS,
        # An uncompressed body cannot grow when it is decoded.
        headers={"Accept-Encoding": "identity", "User-Agent": "Pressroom"},
    )  # fmt: skip
    try:
        with client, client.stream("GET", url) as response:
            body = b"".join(response.iter_raw())
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise Refused(str(error)) from error
    except httpx.TransportError as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
    wait = retry_after(response.headers.get("Retry-After"))
    return Answer(response.status_code, body, time.monotonic() - began, wait)


def retry_after(header: str | None) -> float | None:
    """Return the seconds from a Retry-After header (RFC 9110: seconds or a date), at most LONGEST_WAIT, or None."""
    if header is None:
        return None
    try:
        seconds = float(header) if header.isdecimal() else parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def slack_post(*, text: str) -> bool:
    """Post plain text to the channel of SLACK_WEBHOOK_URL. Returns False if that is not set.

    Raises Unavailable for connection errors, time-outs, 429 and 5xx, and Refused if Slack refuses the message.
    """
    if not settings.SLACK_WEBHOOK_URL:
        return False
    # Unescaped, a title like <!channel> would notify everybody:
    # https://docs.slack.dev/messaging/formatting-message-text
    plain = carried(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    try:
        answer = WebhookClient(settings.SLACK_WEBHOOK_URL, timeout=10, retry_handlers=[]).send(text=plain)
    except (URLError, OSError) as error:
        # Leave out the text of the error: it may contain the URL, which is a secret.
        raise Unavailable(f"Slack did not answer: {type(error).__name__}") from None
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.status_code >= 500:
        given = {name.lower(): value for name, value in answer.headers.items()}.get("retry-after")
        raise Unavailable(
            f"Slack answered with {answer.status_code}", retry_after(given if given is None else str(given))
        )
    if answer.status_code != HTTPStatus.OK:
        raise Refused(f"Slack answered with {answer.status_code}: {answer.body}")
    return True


def pings_run() -> int:
    """Ping every URL of PING_URLS, store the results and delete those of other URLs. Returns the number of URLs."""
    urls = list(dict.fromkeys(settings.PING_URLS))
    Ping.objects.exclude(url__in=urls).delete()
    with ThreadPoolExecutor(PINGS_AT_ONCE) as threads:
        for url, outcome in zip(urls, threads.map(_ping, urls), strict=True):
            Ping.objects.update_or_create(url=url, defaults=outcome)
    return len(urls)


def _ping(url: str) -> dict[str, object]:
    """Ping a URL and return the fields of its Ping."""
    outcome: dict[str, object] = {"status": None, "error": "", "latency_ms": None, "checked_at": timezone.now()}
    try:
        answer = external_fetch(url=url, total=PING_TOTAL)
    except (Unavailable, Refused) as error:
        return outcome | {"error": str(error)}
    return outcome | {"status": answer.status, "latency_ms": round(answer.seconds * 1000)}
