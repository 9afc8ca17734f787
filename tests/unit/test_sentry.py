"""Sentry's settings; what is reported, ``tests/reliability/test_sentry.py`` has."""

from typing import Any

import pytest

from app.checks import external_services as checks
from app.observability.sentry import _masked
from tests.unit.test_checks import ids, run


@pytest.mark.parametrize(
    ("dsn", "rate", "expected"),
    [
        ("", 0.0, []),
        ("https://key@sentry.example.com/12", 1.0, []),
        ("https://key@sentry.example.com/prefix/12", 0.5, []),
        ("sentry.example.com/12", 0.0, ["pressroom.E052"]),
        ("https://sentry.example.com/12", 0.0, ["pressroom.E052"]),
        ("https://key@sentry.example.com/", 0.0, ["pressroom.E052"]),
        ("https://[key@sentry/12", 0.0, ["pressroom.E052"]),
    ],
)
def test_addresses_and_shares(settings: Any, dsn: str, rate: float, expected: list[str]) -> None:
    settings.SENTRY_DSN, settings.SENTRY_TRACES_SAMPLE_RATE = dsn, rate
    assert ids(checks.sentry_settings()) == expected


def test_arguments_are_masked() -> None:
    called = (["https://u:s3cret@host/a?token=s3cret#x", 7, {"to": "kim@example.com"}], "why? none")
    assert _masked(called) == [["https://***@host/a?***", 7, {"to": "***@example.com"}], "why? none"]


def test_a_wrong_address_is_told_of_by_the_check_and_by_no_traceback() -> None:
    done = run("manage.py", "check", SENTRY_DSN="https://sentry.example.com/")
    assert done.returncode == 1
    assert "pressroom.E052" in done.stderr
    assert "Traceback" not in done.stderr
