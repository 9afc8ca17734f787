"""Server-Sent Events about a run: the stream sends the run's state whenever it changes, until the run ends.

A stream occupies one of gunicorn's threads, so a process has at most TASKRUNS_EVENT_STREAMS of them open. A further
stream sends the current state and ends at once. Its client reconnects after RECONNECT, which amounts to polling. An
error status would instead make an EventSource stop for good.

A stream queries Postgres every POLL seconds, outside any transaction, on the connection of its thread. Behind PgBouncer
the server's connection is free between two queries.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import InterfaceError, OperationalError, connections
from django.http import HttpRequest
from rest_framework.renderers import BaseRenderer

from pressroom.http.json_renderer import SafeJSONRenderer

logger = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
POLL = 1.0
"""Seconds between two queries of a run."""
HEARTBEAT = 5.0
"""Seconds of silence after which a comment is sent: it keeps proxies from closing, and shows whether a client left."""
RECONNECT = 2_000
"""Milliseconds after which a client reconnects when its stream has ended."""

EVENT_SCHEMA = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "event": {"type": "string", "enum": ["status", "progress"]},
        "id": {"type": "string", "description": "The id of the state, for Last-Event-ID."},
        "data": {"type": "string", "contentMediaType": "application/json", "description": "The run, as JSON."},
        "retry": {"type": "integer", "description": "Milliseconds after which to reconnect."},
    },
}
"""The schema of an event in the OpenAPI description."""

stopping: Callable[[], bool] = lambda: False  # noqa: E731 - a variable, which gunicorn's process replaces
"""Returns whether this process is about to exit. Its streams end first."""

_open = 0
_lock = threading.Lock()


class EventStreamRenderer(BaseRenderer):
    """Makes ``Accept: text/event-stream`` acceptable. It does not render the stream itself."""

    media_type = MEDIA_TYPE
    format = ""  # not selectable by the URL: the parameter would be passed on to every URL in the response

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """Render errors that DRF itself reports. The API's own errors are problem documents."""
        return SafeJSONRenderer().render(data)


@contextmanager
def _place() -> Iterator[bool]:
    """Yield whether a place for a stream was free. The caller occupies it until the end of the block."""
    global _open  # noqa: PLW0603 - counted per process
    with _lock:
        free = _open < settings.TASKRUNS_EVENT_STREAMS
        _open += free
    try:
        yield free
    finally:
        with _lock:
            _open -= free


def state_id(state: dict[str, Any]) -> str:
    """Return the id of a state: a digest of everything but the progress, a dot, and a digest of the progress."""
    rest = {name: value for name, value in state.items() if name != "progress"}
    return ".".join(
        hashlib.sha256(SafeJSONRenderer().render(part)).hexdigest()[:16] for part in (rest, state["progress"])
    )


def events(read: Callable[[], dict[str, Any] | None], is_live: Callable[[dict[str, Any]], bool], last: str) -> Any:
    """Yield the pieces of the stream, as bytes.

    ``read`` returns the run as the API shows it, or None if it no longer exists. ``last`` is the id of the last event
    that the client received: the stream sends no event before that state has changed.
    """
    with _place() as has_place:
        yield f"retry: {RECONNECT}\n\n".encode()
        ends_at = time.monotonic() + settings.TASKRUNS_EVENT_STREAM_LIFETIME
        sent_at = time.monotonic()
        while True:
            try:
                state = read()
            except (OperationalError, InterfaceError) as error:
                logger.warning("a stream of events ends because Postgres did not answer: %s", str(error).strip())
                return
            if state is None:
                return
            current = state_id(state)
            if current != last:
                name = "progress" if current.partition(".")[0] == last.partition(".")[0] else "status"
                yield _event(name, current, state)
                last, sent_at = current, time.monotonic()
            elif time.monotonic() - sent_at >= HEARTBEAT:
                yield b": nothing new\n\n"
                sent_at = time.monotonic()
            if not (has_place and is_live(state)) or time.monotonic() >= ends_at or stopping():
                return
            time.sleep(POLL)


def for_server(request: HttpRequest, pieces: Any) -> Any:
    """Return the pieces as the request's server needs them: under ASGI asynchronously.

    Django would otherwise read a stream to its end before it sends the first piece.
    """
    return _in_thread(pieces) if isinstance(request, ASGIRequest) else pieces


async def _in_thread(pieces: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Yield the pieces. A thread of the stream's own waits for them, with a database connection of its own."""

    def end() -> None:
        pieces.close()
        connections.close_all()

    thread = ThreadPoolExecutor(1, "event-stream")
    take = sync_to_async(lambda: next(pieces, None), thread_sensitive=False, executor=thread)
    try:
        while (piece := await take()) is not None:
            yield piece
    finally:
        # The stream is over, or the client has left. The loop does not wait for the thread.
        thread.submit(end)
        thread.shutdown(wait=False)


def _event(name: str, key: str, state: dict[str, Any]) -> bytes:
    # The data is one line: JSON escapes line ends, and DRF's renderer also escapes those that only JavaScript has.
    return f"event: {name}\nid: {key}\ndata: ".encode() + SafeJSONRenderer().render(state) + b"\n\n"
