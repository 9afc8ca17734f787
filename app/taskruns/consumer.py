"""Celery's consumer, which loses no message that it cannot make a task of."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from celery.worker.consumer import Consumer

from app.taskruns import terminal, undeliverable
from app.taskruns.messages import HEADER
from app.taskruns.request import write_now_or_later

logger = logging.getLogger(__name__)

# The stubs know half of this class.
_Consumer: Any = Consumer


class LedgerConsumer(_Consumer):  # type: ignore[misc]  # see _Consumer
    """Used by setting (`worker_consumer`)."""

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A name from a newer release, or of nothing at all: a run of ours waits, any other message is kept."""
        name, header = message.headers.get("task"), message.headers.get(HEADER)
        if header is None or name is None:
            self._keep(message, f"no task is called {name or message.payload['task']!r}")
            return
        logger.warning("no task is called %r here: run %s waits for a worker that knows it", name, header["id"])
        write_now_or_later(lambda: terminal.postpone_unknown(uuid.UUID(header["id"]), name))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """No task is named in it."""
        self._keep(message, "names no task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Its body is not what it says."""
        self._keep(message, f"cannot be decoded: {exc!r}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Not the parts that a task's message has, or a serializer that is not accepted."""
        self._keep(message, f"is no task's message: {exc!r}")

    def _keep(self, message: Any, reason: str) -> None:
        queue = message.delivery_info.get("routing_key") or "?"
        logger.error("a message in queue %s %s: kept", queue, reason)
        raw = undeliverable.as_raw(message)
        write_now_or_later(lambda: undeliverable.keep(queue, raw, reason))
