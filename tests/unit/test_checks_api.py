"""Settings of the API that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from app.checks.api import api
from tests.unit.test_checks import ids


@pytest.mark.parametrize(
    ("origin", "is_one"),
    [
        ("https://app.example.com", True), ("http://localhost:3000", True), ("https://[::1]:8443", True),
        ("https://xn--hj2b90b.example", True),
        ("*", False), ("", False), ("app.example.com", False), ("https://", False), ("https://app.example.com/", False),
        ("https://app.example.com/path", False), ("https://App.example.com", False), ("null", False),
        ("https://*.example.com", False), ("ftp://example.com", False), ("https://user@example.com", False),
        ("https://example.com:x", False), (" https://example.com", False), ("https://example.com\n", False),
        ("javascript:alert(1)", False), ("https://ex ample.com", False), ("https://한글.example", False),
    ],
)  # fmt: skip
def test_an_origin_is_as_a_browser_sends_it(settings: Any, origin: str, is_one: bool) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://ok.example.com", origin]
    assert ids(api()) == ([] if is_one else ["pressroom.E080"])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TASKRUNS_EVENT_STREAMS", 0, []), ("TASKRUNS_EVENT_STREAMS", -1, ["pressroom.E081"]),
        ("TASKRUNS_EVENT_STREAM_LIFETIME", 30.0, []), ("TASKRUNS_EVENT_STREAM_LIFETIME", 0.0, ["pressroom.E082"]),
        ("TASKRUNS_EVENT_STREAM_LIFETIME", -5.0, ["pressroom.E082"]),
        ("TASKRUNS_EVENT_STREAM_LIFETIME", float("inf"), ["pressroom.E082"]),
        ("TASKRUNS_EVENT_STREAM_LIFETIME", float("nan"), ["pressroom.E082"]),
    ],
)  # fmt: skip
def test_streams_are_bounded(settings: Any, name: str, value: float, expected: list[str]) -> None:
    setattr(settings, name, value)
    assert ids(api()) == expected
