"""System checks of logs, and of how other services are named: Sentry, Slack, Stripe."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from app.observability.logs import FORMATS, LEVELS


def log_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """A format and a level that exist."""
    if settings.LOG_FORMAT not in FORMATS:
        yield checks.Error(
            f"LOG_FORMAT is {settings.LOG_FORMAT!r}.", hint=f"It is one of {', '.join(FORMATS)}.", id="pressroom.E050"
        )
    if settings.LOG_LEVEL not in LEVELS:
        yield checks.Error(
            f"LOG_LEVEL is {settings.LOG_LEVEL!r}.", hint=f"It is one of {', '.join(LEVELS)}.", id="pressroom.E051"
        )


def host_of(url: str, *schemes: str) -> str | None:
    """The host of an address with one of these schemes, or else of http and https; None where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in (schemes or ("http", "https")) else None


def sentry_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """An address that Sentry's library takes."""
    whole = host_of(settings.SENTRY_DSN) and urlsplit(settings.SENTRY_DSN)
    if settings.SENTRY_DSN and not (whole and whole.username and whole.path.rpartition("/")[2].isdecimal()):
        yield checks.Error(
            "SENTRY_DSN is no address of a Sentry project.",
            hint="It looks like https://key@host/123: Sentry shows it in the project's settings, under Client Keys.",
            id="pressroom.E052",
        )


def external_calls(**_: object) -> Iterator[checks.CheckMessage]:
    """Networks that are networks, and none without need; URLs that can be called."""
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
            hint="Whoever chooses a URL can reach what listens there: name single hosts, or leave it empty.",
            id="pressroom.W031",
        )
    for url in settings.PING_URLS:
        if not host_of(url):
            yield checks.Error(
                f"PING_URLS: {url!r} is no http(s) address.", hint="For example https://host/.", id="pressroom.E032"
            )
    if settings.SLACK_WEBHOOK_URL and not host_of(settings.SLACK_WEBHOOK_URL, *(() if settings.LOCAL else ("https",))):
        yield checks.Error(
            "SLACK_WEBHOOK_URL is no https:// address.",
            hint="It is a secret and travels with each call.",
            id="pressroom.E033",
        )


def payments(**_: object) -> Iterator[checks.CheckMessage]:
    """Both of Stripe's secrets or none; and no key over a line that others can read."""
    if bool(settings.STRIPE_SECRET_KEY) != bool(settings.STRIPE_WEBHOOK_SECRET):
        unset = "STRIPE_WEBHOOK_SECRET" if settings.STRIPE_SECRET_KEY else "STRIPE_SECRET_KEY"
        yield checks.Error(
            f"Payments are half set up: {unset} is not set.",
            hint="Set both to take payments, or neither. Stripe's dashboard shows them under Developers.",
            id="pressroom.E040",
        )
    if not host_of(settings.STRIPE_API_BASE, *(() if settings.LOCAL else ("https",))):
        yield checks.Error(
            "STRIPE_API_BASE is no https:// address.",
            hint="The secret key travels with each call.",
            id="pressroom.E041",
        )
