"""What is wrong with the settings of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.conf import settings
from django.core import checks

ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?")
"""As a browser sends it: in lower case, without a path (RFC 6454)."""


def api(**_: object) -> Iterator[checks.CheckMessage]:
    """Origins that no browser sends, and streams that never open or end."""
    for origin in settings.CORS_ALLOWED_ORIGINS:
        if not ORIGIN.fullmatch(origin):
            yield checks.Error(
                f"CORS_ALLOWED_ORIGINS holds {origin!r}, which is no origin.",
                hint="Name each site whose scripts may call the API by scheme and host, in lower case and without a "
                "path, such as https://app.example.com; a wildcard is not taken.",
                id="pressroom.E080",
            )
    if settings.EVENT_STREAMS < 0:
        yield checks.Error(
            f"EVENT_STREAMS is {settings.EVENT_STREAMS}.",
            hint="How many streams of events one process has open at most: fewer than it has threads, or 0.",
            id="pressroom.E081",
        )
    if not 1 <= settings.EVENT_STREAM_LIFETIME <= 3600:
        yield checks.Error(
            f"EVENT_STREAM_LIFETIME is {settings.EVENT_STREAM_LIFETIME:g}.",
            hint="The seconds that a stream of events lasts, from 1 to 3600: its client then comes back by itself.",
            id="pressroom.E082",
        )
