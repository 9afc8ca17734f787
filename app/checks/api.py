"""System checks of the API's settings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.conf import settings
from django.core import checks

ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?")
"""An origin as browsers send it: in lower case, without a path (RFC 6454)."""


def api(**_: object) -> Iterator[checks.CheckMessage]:
    """Check that origins are ones that browsers send, and that streams can open and end."""
    for origin in settings.CORS_ALLOWED_ORIGINS:
        if not ORIGIN.fullmatch(origin):
            yield checks.Error(
                f"CORS_ALLOWED_ORIGINS contains {origin!r}, which is not an origin.",
                hint="Give scheme and host of each site whose scripts may call the API, in lower case and without a "
                "path, for example https://app.example.com. Wildcards are not supported.",
                id="pressroom.E080",
            )
    if settings.TASKRUNS_EVENT_STREAMS < 0:
        yield checks.Error(
            f"EVENT_STREAMS is {settings.TASKRUNS_EVENT_STREAMS}.",
            hint="Set it to the number of event streams that a process may serve: fewer than its threads, or 0.",
            id="pressroom.E081",
        )
    if not 1 <= settings.TASKRUNS_EVENT_STREAM_LIFETIME <= 3600:
        yield checks.Error(
            f"EVENT_STREAM_LIFETIME is {settings.TASKRUNS_EVENT_STREAM_LIFETIME:g}.",
            hint="Set it to the seconds that an event stream lasts, from 1 to 3600. The client then reconnects.",
            id="pressroom.E082",
        )
