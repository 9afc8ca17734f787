"""System checks of the configuration. Each error has a hint.

``manage.py check`` lists the errors. Web, worker and beat refuse to start with errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from django.conf import settings
from django.core import checks

from app.checks.api import api
from app.checks.external_services import external_calls, host_of, log_settings, payments, sentry_settings
from app.checks.providers import mail_transport, search_server
from app.checks.security import (
    proxies,
    registration,
    throttle_rates,
    unreadable_settings,
    unsafe_settings,
)
from pressroom.checks import TAG

LOOPBACK = {"localhost", "::1", ""}


def register() -> None:
    """Register the checks with Django."""
    for check in (
        required_settings, unsafe_settings, unreadable_settings, registration, throttle_rates, proxies, redis_databases,
        file_storage, mail_transport, search_server, log_settings, sentry_settings, external_calls, payments, api,
    ):  # fmt: skip
        checks.register(check, TAG)


def required_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """Check the settings that have a default only in local mode."""
    if settings.LOCAL:
        return
    if not settings.SECRET_KEY_IS_SET:
        yield checks.Error(
            "SECRET_KEY is not set.",
            hint="Set it to 50 random characters, the same for every process: sessions and tokens are signed with it.",
            id="pressroom.E001",
        )
    if not settings.DATABASE_URL:
        yield checks.Error(
            "DATABASE_URL is not set.", hint="For example postgres://user:password@host:5432/name.", id="pressroom.E002"
        )
    if not settings.ALLOWED_HOSTS:
        yield checks.Error(
            "ALLOWED_HOSTS is empty, so every request would get 400.",
            hint="Set it to the host names of the site, separated by commas.",
            id="pressroom.E003",
        )
    if host_of(settings.SITE_URL) in (None, "127.0.0.1", *LOOPBACK):
        yield checks.Error(
            f"SITE_URL is {settings.SITE_URL!r}, and links in mails would point to it.",
            hint="Set it to the public URL of the site, for example https://press.example.com.",
            id="pressroom.E013",
        )


def redis_databases(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that broker, cache and results use different databases.

    The broker's must not lose anything, but a cache is flushed and evicted, and results expire.
    """
    users = {"broker": settings.CELERY_BROKER_URL, "cache": settings.CACHE_URL}
    if str(settings.CELERY_RESULT_BACKEND).startswith(("redis:", "rediss:", "redis+socket:")):
        users["result backend"] = settings.CELERY_RESULT_BACKEND
    seen: dict[tuple[str, int, str], str] = {}
    for user, url in users.items():
        database = redis_database(url)
        other = seen.setdefault(database, user)
        if other != user:
            yield checks.Error(
                f"The {user} uses the same Redis database as the {other}: number {database[2]} of {database[0]}.",
                hint="End the URLs with different numbers: CELERY_BROKER_URL /0, CELERY_RESULT_BACKEND /1, "
                "CACHE_URL /2.",
                id="pressroom.E004",
            )


def file_storage(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that S3 is configured completely or not at all. Otherwise files would land where nobody looks for them."""
    given = {name for name, value in settings.S3_OPTIONS.items() if value}
    if given and not settings.S3_BUCKET:
        yield checks.Error(
            "S3 is only partly configured: S3_BUCKET is not set, so files would be stored in Postgres.",
            hint="Set S3_BUCKET to the name of the bucket, or unset all S3_ variables.",
            id="pressroom.E011",
        )
    if len(given & {"access_key", "secret_key"}) == 1:
        yield checks.Error(
            "S3 is only partly configured: either S3_ACCESS_KEY_ID or S3_SECRET_ACCESS_KEY is missing.",
            hint="Set both, or neither if the machine's role grants access.",
            id="pressroom.E012",
        )


def redis_database(url: str) -> tuple[str, int, str]:
    """Return host (or socket), port and number of the database that a Redis URL names."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme in ("unix", "redis+socket"):
        number = query.get("db") or query.get("virtual_host")
        return unquote(parts.path), 0, number[0] if number else "0"
    host = (parts.hostname or "").lower()
    number_in_path = parts.path.strip("/")
    return (
        "127.0.0.1" if host in LOOPBACK else host,
        parts.port or 6379,
        query["db"][0] if "db" in query else number_in_path or "0",
    )
