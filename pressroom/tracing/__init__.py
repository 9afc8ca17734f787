"""Traces by OpenTelemetry: off, and not even imported, unless an endpoint is set. See docs/tracing.md.

Callers check ``tracing.active is not None``, which is all that a call or a run costs without an endpoint.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pressroom.tracing.spans import Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
active: Tracing | None = None
"""What makes the spans of this process."""


def is_wanted() -> bool:
    """Return whether the environment names an endpoint."""
    return any(map(os.environ.get, ENDPOINTS)) and os.environ.get("OTEL_SDK_DISABLED") != "true"


def start() -> None:
    """Start tracing if the environment names an endpoint. Raises ImportError if the packages are missing then."""
    global active  # noqa: PLW0603 - one for the process
    if active is None and is_wanted():
        from pressroom.tracing.setup import make

        active = make()
