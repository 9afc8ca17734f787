"""System checks of security settings, and of variables that could not be read."""

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
"""Words that occur in example keys, but not in random ones."""


def unreadable_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that each variable is valid: numbers within their bounds, switches on or off, JSON."""
    for sentence in settings.ENVIRONMENT_ERRORS.values():
        yield checks.Error(sentence, hint="The documentation's table of settings describes it.", id="pressroom.E061")
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    for path, number in _numbers(options, "CELERY_BROKER_TRANSPORT_OPTIONS"):
        if not (math.isfinite(number) and (number > 0 or (number == 0 and "timeout" not in path))):
            yield checks.Error(f"{path} is {number}.", hint="Use a number above 0.", id="pressroom.E070")


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{path}.{name}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def registration(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that the value is known. Any other value would mean open registration."""
    if settings.REGISTRATION not in REGISTRATIONS:
        yield checks.Error(
            f"REGISTRATION is {settings.REGISTRATION!r}.",
            hint=f"Use one of {', '.join(REGISTRATIONS)}.",
            id="pressroom.E060",
        )


def unsafe_settings(**_: object) -> Iterator[checks.CheckMessage]:
    """Refuse settings that are safe only on a laptop."""
    if settings.LOCAL:
        return
    if settings.SECRET_KEY_IS_SET and (why := _weakness(settings.SECRET_KEY)):
        yield checks.Error(
            f"SECRET_KEY {why}. Whoever guesses it can sign tokens for any user.",
            hint=f"Set it to {SHORTEST_KEY} random characters or more, the same for every process: "
            "python -c 'import secrets; print(secrets.token_urlsafe(50))'",
            id="pressroom.E062",
        )
    if settings.DEBUG:
        yield checks.Error(
            "DEBUG is on, so every error would show settings and code to everybody.",
            hint="Unset it. On a laptop, use `make up`.",
            id="pressroom.E063",
        )
    for name, hosts in (
        ("ALLOWED_HOSTS", settings.ALLOWED_HOSTS),
        ("CSRF_TRUSTED_ORIGINS", [origin for origin in settings.CSRF_TRUSTED_ORIGINS if origin.endswith("//*")]),
    ):
        if wild := [host for host in hosts if "*" in host or host.strip() in ("", ".")]:
            yield checks.Error(
                f"{name} accepts any host: {', '.join(map(repr, wild))}.",
                hint="List the host names of the site; .example.com stands for all hosts of a domain.",
                id="pressroom.E064",
            )


def _weakness(key: str) -> str | None:
    if len(key) < SHORTEST_KEY:
        return f"has {len(key)} characters, fewer than {SHORTEST_KEY}"
    if len(set(key)) < FEWEST_CHARACTERS:
        return f"has {len(set(key))} different characters, fewer than {FEWEST_CHARACTERS}"
    # A text occurs inside of its own double only if it repeats a shorter text.
    if key in (key + key)[1:-1]:
        return "is a short text repeated"
    if any(word in key.lower() for word in DEFAULTS):
        return "is a well-known example"
    return None


def throttle_rates(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that the rates are valid. With an invalid rate, each counted request would fail."""
    rates: dict[str, Any] = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    for name, text in {**rates, **settings.LIMITS}.items():
        try:
            parse_rate(text)
        except (ValueError, TypeError):
            yield checks.Error(
                f"The rate of {name!r} is {text!r}, which is not a rate (THROTTLE_ and LOCKOUT_ variables).",
                hint="Use a number above 0 and a period (s, min, hour or day), for example 30/min.",
                id="pressroom.E065",
            )


def proxies(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that the site trusts both headers of a proxy, or neither."""
    count = settings.REST_FRAMEWORK["NUM_PROXIES"]
    if settings.TRUST_PROXY and not count:
        yield checks.Error(
            "TRUST_PROXY is on but NUM_PROXIES is 0, so the limits would count all clients as one: the proxy.",
            hint="Set NUM_PROXIES to the number of proxies that add to X-Forwarded-For, usually 1.",
            id="pressroom.E066",
        )
    if count and not settings.TRUST_PROXY:
        yield checks.Error(
            f"NUM_PROXIES is {count} but TRUST_PROXY is off, so the site could not tell https from http.",
            hint="Set TRUST_PROXY=1 if a proxy sets X-Forwarded-Proto, else NUM_PROXIES=0.",
            id="pressroom.E071",
        )
    if settings.HTTPS and not settings.TRUST_PROXY and not settings.LOCAL:
        yield checks.Warning(
            "SITE_URL is https but no proxy is trusted. Unless gunicorn itself serves TLS, forms will be refused.",
            hint="Behind a proxy that terminates TLS, set TRUST_PROXY=1 and NUM_PROXIES.",
            id="pressroom.W068",
        )
