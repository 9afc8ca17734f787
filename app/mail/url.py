"""EMAIL_URL: translates the URL of a mail server or provider into settings of Django and anymail."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import environ

TIMEOUT = 10
"""Seconds to wait for a mail server's answer."""
PROVIDER_TIMEOUT = (5, 30)
"""Seconds to connect to a provider, and to wait for its answer to a batch."""
SENDGRID = "anymail.backends.sendgrid.EmailBackend"
SES = "anymail.backends.amazon_ses.EmailBackend"


class EmailUrlError(ValueError):
    """EMAIL_URL is unusable. The text says why and contains no password or key."""


def email_settings(url: str) -> dict[str, Any]:
    """Return the settings for ``url``. Raises EmailUrlError.

    Providers are ``sendgrid://:KEY@`` and ``ses://?region=…``. The latter has ``KEY_ID:SECRET@`` before the ``?``,
    unless AWS finds its credentials itself. A host names another endpoint: ``sendgrid://:KEY@api.eu.sendgrid.com``.
    ``+http`` in the scheme turns TLS off. All other URLs are django-environ's.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # Hide the original message, which may quote a password.
        raise EmailUrlError("it is not a URL; in a password write / as %2F, @ as %40, # as %23.") from error
    scheme, _, plain = parts.scheme.partition("+")
    if scheme in ("sendgrid", "ses"):
        if plain not in ("", "http"):
            raise EmailUrlError(f"{parts.scheme}:// is not a known scheme.")
        host = f"{parts.hostname}:{port}" if parts.hostname and port else parts.hostname
        endpoint = f"{'http' if plain else 'https'}://{host}" if host else None
        return _sendgrid(parts, endpoint) if scheme == "sendgrid" else _ses(parts, endpoint)
    if parts.scheme not in environ.Env.EMAIL_SCHEMES:
        raise EmailUrlError(f"{parts.scheme or 'No scheme'}:// is not a known scheme.")
    if scheme.startswith("smtp") and not parts.hostname:
        raise EmailUrlError(f"{parts.scheme}:// has no host.")
    return {**environ.Env.email_url_config(url), "EMAIL_TIMEOUT": TIMEOUT}


def _sendgrid(parts: SplitResult, endpoint: str | None) -> dict[str, Any]:
    if not parts.password:
        raise EmailUrlError("sendgrid:// has no API key.")
    anymail = {
        "SENDGRID_API_KEY": unquote(parts.password),
        # An id of anymail's own for each recipient. Nothing here reads it.
        "SENDGRID_GENERATE_MESSAGE_ID": False,
        "REQUESTS_TIMEOUT": PROVIDER_TIMEOUT,
    }
    if endpoint:
        anymail["SENDGRID_API_URL"] = f"{endpoint}/v3/"
    return {"EMAIL_BACKEND": SENDGRID, "ANYMAIL": anymail}


def _ses(parts: SplitResult, endpoint: str | None) -> dict[str, Any]:
    region = parse_qs(parts.query).get("region")
    if not region:
        raise EmailUrlError("ses:// has no region.")
    if bool(parts.username) != bool(parts.password):
        raise EmailUrlError("ses:// has only half of its credentials.")
    connect, read = PROVIDER_TIMEOUT
    client: dict[str, Any] = {
        "region_name": region[0],
        # One try: a batch that timed out may have been sent, so the task decides whether to send it again.
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
