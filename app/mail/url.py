"""EMAIL_URL: by which mail server or provider mail goes, as settings of Django and anymail."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import environ

TIMEOUT = 10
"""Seconds that a mail server may take to answer."""
PROVIDER_TIMEOUT = (5, 30)
"""Seconds to connect to a provider, and for its answer to a whole batch."""
SENDGRID = "anymail.backends.sendgrid.EmailBackend"
SES = "anymail.backends.amazon_ses.EmailBackend"


class EmailUrlError(ValueError):
    """EMAIL_URL cannot be used; the text says why, and names no password or key."""


def email_settings(url: str) -> dict[str, Any]:
    """The settings that ``url`` stands for. Raises EmailUrlError.

    ``sendgrid://:KEY@`` and ``ses://?region=…``, the latter with ``KEY_ID:SECRET@`` before the ``?`` unless AWS finds
    its credentials by itself. A host is that of another endpoint: ``sendgrid://:KEY@api.eu.sendgrid.com``; with
    ``+http`` it is spoken to without TLS. All else is django-environ's.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # Not its own words, which may quote a password.
        raise EmailUrlError("it is no URL; in a password write / as %2F, @ as %40, # as %23.") from error
    scheme, _, plain = parts.scheme.partition("+")
    if scheme in ("sendgrid", "ses"):
        if plain not in ("", "http"):
            raise EmailUrlError(f"{parts.scheme}:// is none of the schemes.")
        host = f"{parts.hostname}:{port}" if parts.hostname and port else parts.hostname
        endpoint = f"{'http' if plain else 'https'}://{host}" if host else None
        return _sendgrid(parts, endpoint) if scheme == "sendgrid" else _ses(parts, endpoint)
    if parts.scheme not in environ.Env.EMAIL_SCHEMES:
        raise EmailUrlError(f"{parts.scheme or 'No scheme'}:// is none of the schemes.")
    if scheme.startswith("smtp") and not parts.hostname:
        raise EmailUrlError(f"{parts.scheme}:// has no host.")
    return {**environ.Env.email_url_config(url), "EMAIL_TIMEOUT": TIMEOUT}


def _sendgrid(parts: SplitResult, endpoint: str | None) -> dict[str, Any]:
    if not parts.password:
        raise EmailUrlError("sendgrid:// has no API key.")
    anymail = {"SENDGRID_API_KEY": unquote(parts.password), "REQUESTS_TIMEOUT": PROVIDER_TIMEOUT}
    if endpoint:
        anymail["SENDGRID_API_URL"] = f"{endpoint}/v3/"
    return {"EMAIL_BACKEND": SENDGRID, "ANYMAIL": anymail}


def _ses(parts: SplitResult, endpoint: str | None) -> dict[str, Any]:
    region = parse_qs(parts.query).get("region")
    if not region:
        raise EmailUrlError("ses:// has no region.")
    if bool(parts.username) != bool(parts.password):
        raise EmailUrlError("ses:// has half of its credentials.")
    connect, read = PROVIDER_TIMEOUT
    client: dict[str, Any] = {
        "region_name": region[0],
        # One try: a batch that timed out may have been sent, so whether to send it again is the task's to say.
        "config": {"connect_timeout": connect, "read_timeout": read, "retries": {"total_max_attempts": 1}},
    }
    if parts.username and parts.password:
        client |= {
            "aws_access_key_id": unquote(parts.username),
            "aws_secret_access_key": unquote(parts.password),
        }
    if endpoint:
        client["endpoint_url"] = endpoint
    return {"EMAIL_BACKEND": SES, "ANYMAIL": {"AMAZON_SES_CLIENT_PARAMS": client}}
