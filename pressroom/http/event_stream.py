"""Server-Sent Events about a run: its state when it changes, as long as it lives.

A stream holds one of gunicorn's threads, so EVENT_STREAMS of them are open in a process at most. The next one is told
the present state and ended at once; its client comes back after RECONNECT, as one that polls does, and no status of
HTTP tells an EventSource to give up. A stream asks Postgres once a POLL, outside of any transaction, by the connection
that its thread has anyway: behind PgBouncer a server's connection is given back between two questions.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from rest_framework.renderers import BaseRenderer

from pressroom.http.json_renderer import SafeJSONRenderer

logger = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
POLL = 1.0
"""Seconds between two looks at a run."""
HEARTBEAT = 5.0
"""Seconds of silence after which a comment is sent: proxies keep the connection, and a client that left is noticed."""
RECONNECT = 2_000
"""Milliseconds after which a client comes back when its stream has ended."""

EVENT_SCHEMA = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "event": {"type": "string", "enum": ["status", "progress"]},
        "id": {"type": "string", "description": "Of the state; for Last-Event-ID."},
        "data": {"type": "string", "contentMediaType": "application/json", "description": "The run, as JSON."},
        "retry": {"type": "integer", "description": "Milliseconds after which to come back."},
    },
}
"""For the OpenAPI description."""

stopping: Callable[[], bool] = lambda: False  # noqa: E731 - a variable: gunicorn's process puts its own here
"""Whether this process is to end: its streams end first."""

_open = 0
_lock = threading.Lock()


class EventStreamRenderer(BaseRenderer):
    """For the choice by ``Accept`` alone: a stream is not rendered at once."""

    media_type = MEDIA_TYPE
    format = ""  # not by the address: it would be handed on to every address in the answer

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """Errors told by DRF itself; those of the API are problem documents."""
        return SafeJSONRenderer().render(data)


@contextmanager
def _place() -> Iterator[bool]:
    """Whether one of the places for streams is free; it is the caller's until the end of the block."""
    global _open  # noqa: PLW0603 - counted per process
    with _lock:
        free = _open < settings.EVENT_STREAMS
        _open += free
    try:
        yield free
    finally:
        with _lock:
            _open -= free


def state_id(state: dict[str, Any]) -> str:
    """Names a state: one part for the progress, one for all else."""
    rest = {name: value for name, value in state.items() if name != "progress"}
    return ".".join(
        hashlib.sha256(SafeJSONRenderer().render(part)).hexdigest()[:16] for part in (rest, state["progress"])
    )


def events(read: Callable[[], dict[str, Any] | None], is_live: Callable[[dict[str, Any]], bool], last: str) -> Any:
    """The stream's pieces, as bytes. ``read`` gives the run as the API shows it, or None where it is gone.

    ``last`` is the id of the event that the client got last: nothing is sent before that state has changed.
    """
    with _place() as has_place:
        yield f"retry: {RECONNECT}\n\n".encode()
        ends_at = time.monotonic() + settings.EVENT_STREAM_LIFETIME
        told_at = time.monotonic()
        while True:
            try:
                state = read()
            except (OperationalError, InterfaceError) as error:
                logger.warning("a stream of events ends, for Postgres gave no answer: %s", str(error).strip())
                return
            if state is None:
                return
            current = state_id(state)
            if current != last:
                name = "progress" if current.partition(".")[0] == last.partition(".")[0] else "status"
                yield _event(name, current, state)
                last, told_at = current, time.monotonic()
            elif time.monotonic() - told_at >= HEARTBEAT:
                yield b": nothing new\n\n"
                told_at = time.monotonic()
            if not (has_place and is_live(state)) or time.monotonic() >= ends_at or stopping():
                return
            time.sleep(POLL)


def _event(name: str, key: str, state: dict[str, Any]) -> bytes:
    # One line: JSON has its line ends escaped, and DRF's renderer also those that JavaScript knows besides.
    return f"event: {name}\nid: {key}\ndata: ".encode() + SafeJSONRenderer().render(state) + b"\n\n"
