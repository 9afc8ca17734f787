"""System checks of what would let the wrong people in, and of settings that are not what they should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks

from app.http.rates import parse_rate

REGISTRATIONS = ("open", "authors", "closed")
SHORTEST_KEY, FEWEST_CHARACTERS = 50, 10
DEFAULTS = ("insecure", "changeme", "change-me", "change_me", "secret-key", "secret_key", "password", "for-development")
"""What stands in keys that are not random, but somebody's example."""


def unreadable_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """Each variable is what it should be: numbers within their bounds, switches on or off, JSON."""
    for sentence in settings.ENVIRONMENT_ERRORS.values():
        yield checks.Error(sentence, hint="README's table of settings says what it means.", id="pressroom.E061")
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    for path, number in _numbers(options, "CELERY_BROKER_TRANSPORT_OPTIONS"):
        if not (math.isfinite(number) and (number > 0 or (number == 0 and "timeout" not in path))):
            yield checks.Error(f"{path} is {number}.", hint="A number above 0.", id="pressroom.E070")
    if not settings.TASKRUNS_SILENCE > 2 * settings.TASKRUNS_HEARTBEAT:
        yield checks.Error(
            f"TASKRUNS_SILENCE ({settings.TASKRUNS_SILENCE} s) is not above two of TASKRUNS_HEARTBEAT "
            f"({settings.TASKRUNS_HEARTBEAT} s): workers that live would be declared dead.",
            hint="Leave time for two heartbeats to be missed, as the defaults do: 20 and 5.",
            id="pressroom.E067",
        )


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{path}.{name}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def registration(**_: object) -> Iterator[checks.CheckMessage]:
    """A word that registration knows: with any other it would be open."""
    if settings.REGISTRATION not in REGISTRATIONS:
        yield checks.Error(
            f"REGISTRATION is {settings.REGISTRATION!r}.",
            hint=f"It is one of {', '.join(REGISTRATIONS)}.",
            id="pressroom.E060",
        )


def unsafe_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """What is for a laptop alone."""
    if settings.LOCAL:
        return
    if settings.SECRET_KEY_IS_SET and (why := _weakness(settings.SECRET_KEY)):
        yield checks.Error(
            f"SECRET_KEY {why}: who guesses it signs tokens of any user.",
            hint=f"Set it to {SHORTEST_KEY} random characters or more, the same for every process: "
            "python -c 'import secrets; print(secrets.token_urlsafe(50))'",
            id="pressroom.E062",
        )
    if settings.DEBUG:
        yield checks.Error(
            "DEBUG is on: every error would show settings and code to whoever asks.",
            hint="Unset it; on a laptop `make up` is for that.",
            id="pressroom.E063",
        )
    for name, hosts in (
        ("ALLOWED_HOSTS", settings.ALLOWED_HOSTS),
        ("CSRF_TRUSTED_ORIGINS", [origin for origin in settings.CSRF_TRUSTED_ORIGINS if origin.endswith("//*")]),
    ):
        if wild := [host for host in hosts if "*" in host or host.strip() in ("", ".")]:
            yield checks.Error(
                f"{name} takes any host: {', '.join(map(repr, wild))}.",
                hint="Name the hosts that the site is reached by; .example.com stands for all under a domain.",
                id="pressroom.E064",
            )


def _weakness(key: str) -> str | None:
    if len(key) < SHORTEST_KEY:
        return f"has {len(key)} characters, fewer than {SHORTEST_KEY}"
    if len(set(key)) < FEWEST_CHARACTERS:
        return f"has {len(set(key))} different characters, fewer than {FEWEST_CHARACTERS}"
    if key in (key + key)[1:-1]:
        return "is a short text again and again"
    if any(word in key.lower() for word in DEFAULTS):
        return "is an example that others know"
    return None


def throttle_rates(**_: object) -> Iterator[checks.CheckMessage]:
    """Rates that are some: with any other text each request that is counted would fail."""
    rates: dict[str, Any] = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    for name, text in {**rates, **settings.LIMITS}.items():
        try:
            parse_rate(text)
        except (ValueError, TypeError):
            yield checks.Error(
                f"The rate of {name!r} is {text!r}, which is none (THROTTLE_ and LOCKOUT_ variables).",
                hint="A number above 0 and a period, for example 30/min: s, min, hour or day.",
                id="pressroom.E065",
            )


def proxies(**_: object) -> Iterator[checks.CheckMessage]:
    """Either there is a proxy in front or there is none: both of its headers are believed, or neither."""
    count = settings.REST_FRAMEWORK["NUM_PROXIES"]
    if settings.TRUST_PROXY and not count:
        yield checks.Error(
            "TRUST_PROXY is on and NUM_PROXIES is 0: all clients would be counted as one, the proxy.",
            hint="Set NUM_PROXIES to the number of proxies that add to X-Forwarded-For, 1 in most cases.",
            id="pressroom.E066",
        )
    if count and not settings.TRUST_PROXY:
        yield checks.Error(
            f"NUM_PROXIES is {count} and TRUST_PROXY is off: the site would not know https from http.",
            hint="Set TRUST_PROXY=1 where a proxy sets X-Forwarded-Proto, or else NUM_PROXIES=0.",
            id="pressroom.E071",
        )
    if settings.HTTPS and not settings.TRUST_PROXY and not settings.LOCAL:
        yield checks.Warning(
            "SITE_URL is https, and no proxy is believed: unless gunicorn itself speaks TLS, forms are refused.",
            hint="Behind a proxy that ends TLS set TRUST_PROXY=1 and NUM_PROXIES.",
            id="pressroom.W068",
        )
