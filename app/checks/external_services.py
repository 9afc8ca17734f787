"""System checks of logging and of the URLs of other services: Sentry, Slack, Stripe."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from app.observability.logs import FORMATS, LEVELS


def log_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that format and level exist."""
    if settings.LOG_FORMAT not in FORMATS:
        yield checks.Error(
            f"LOG_FORMAT is {settings.LOG_FORMAT!r}.", hint=f"Use one of {', '.join(FORMATS)}.", id="pressroom.E050"
        )
    if settings.LOG_LEVEL not in LEVELS:
        yield checks.Error(
            f"LOG_LEVEL is {settings.LOG_LEVEL!r}.", hint=f"Use one of {', '.join(LEVELS)}.", id="pressroom.E051"
        )


def host_of(url: str, *schemes: str) -> str | None:
    """Return the host of a URL with one of these schemes (default: http and https), or None for any other text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in (schemes or ("http", "https")) else None


def secret_schemes() -> tuple[str, ...]:
    """Return the schemes of a URL that carries a secret: https, and in local mode http as well."""
    return ("http", "https") if settings.LOCAL else ("https",)


def sentry_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that Sentry's library accepts the URL."""
    whole = host_of(settings.SENTRY_DSN) and urlsplit(settings.SENTRY_DSN)
    if settings.SENTRY_DSN and not (whole and whole.username and whole.path.rpartition("/")[2].isdecimal()):
        yield checks.Error(
            "SENTRY_DSN is not the URL of a Sentry project.",
            hint="It looks like https://key@host/123. Sentry shows it in the project's settings, under Client Keys.",
            id="pressroom.E052",
        )


def external_calls(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that networks and URLs are valid, and warn about networks that are not public."""
    for text in settings.EXTERNAL_ALLOWED_NETWORKS:
        try:
            ip_network(text)
        except ValueError as error:
            yield checks.Error(
                f"EXTERNAL_ALLOWED_NETWORKS: {error}.", hint="For example 10.1.0.0/16,fd00::/8.", id="pressroom.E030"
            )
    if settings.EXTERNAL_ALLOWED_NETWORKS and not settings.LOCAL:
        yield checks.Warning(
            "EXTERNAL_ALLOWED_NETWORKS lets calls to other services reach networks that are not public.",
            hint="Everybody who can choose a URL can reach the services there. Name single hosts, or leave it empty.",
            id="pressroom.W031",
        )
    for url in settings.PING_URLS:
        if not host_of(url):
            yield checks.Error(
                f"PING_URLS: {url!r} is not an http(s) URL.", hint="For example https://host/.", id="pressroom.E032"
            )
    if settings.SLACK_WEBHOOK_URL and not host_of(settings.SLACK_WEBHOOK_URL, *secret_schemes()):
        yield checks.Error(
            "SLACK_WEBHOOK_URL is not an https:// URL.",
            hint="The URL is a secret, and each call sends it over the network.",
            id="pressroom.E033",
        )


def payments(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that both of Stripe's secrets are set or neither, and that the key travels only over TLS."""
    if bool(settings.STRIPE_SECRET_KEY) != bool(settings.STRIPE_WEBHOOK_SECRET):
        unset = "STRIPE_WEBHOOK_SECRET" if settings.STRIPE_SECRET_KEY else "STRIPE_SECRET_KEY"
        yield checks.Error(
            f"Payments are only partly configured: {unset} is not set.",
            hint="Set both to accept payments, or neither. Stripe's dashboard shows them under Developers.",
            id="pressroom.E040",
        )
    if not host_of(settings.STRIPE_API_BASE, *secret_schemes()):
        yield checks.Error(
            "STRIPE_API_BASE is not an https:// URL.",
            hint="Each call sends the secret key over the network.",
            id="pressroom.E041",
        )
