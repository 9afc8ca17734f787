"""System checks of the mail and search servers. Part of ``app/checks/configuration.py``."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parseaddr
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from app.mail.url import EmailUrlError, email_settings


def mail_transport(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that EMAIL_URL is valid and that the provider will accept the sender."""
    if not settings.EMAIL_URL:
        return
    try:
        found = email_settings(settings.EMAIL_URL)
    except EmailUrlError as error:
        yield checks.Error(
            f"EMAIL_URL is not valid: {error}",
            hint="For example smtp+tls://user:password@host:587, sendgrid://:KEY@ or ses://?region=ap-northeast-2.",
            id="pressroom.E020",
        )
        return
    if "ANYMAIL" in found and parseaddr(settings.DEFAULT_FROM_EMAIL)[1].endswith("@example.com"):
        yield checks.Error(
            "DEFAULT_FROM_EMAIL is an example, but a mail provider accepts only senders that it has verified.",
            hint="Set it to an address that the provider has verified, for example Press <press@your.domain>.",
            id="pressroom.E021",
        )


def search_server(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that Meilisearch is configured completely or not at all."""
    url, key = settings.MEILISEARCH_URL, settings.MEILISEARCH_KEY
    if key and not url:
        yield checks.Error(
            "MEILISEARCH_KEY is set but MEILISEARCH_URL is not, so Postgres would search.",
            hint="Set both, or neither.",
            id="pressroom.E022",
        )
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        yield checks.Error(
            "MEILISEARCH_URL is not the URL of a server.",
            hint="For example https://search.example:7700.",
            id="pressroom.E023",
        )
    elif not key and not settings.LOCAL:
        yield checks.Error(
            "MEILISEARCH_URL is set but MEILISEARCH_KEY is not.",
            hint="Set it to an API key that may search, add and delete documents and update settings. Without a key "
            "everybody could change the index.",
            id="pressroom.E024",
        )
