"""Celery's consumer, which outlives each message: one that it cannot make a task of is set aside with its error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from pressroom.celery_app import undeliverable
from pressroom.database.deferred_writes import write_now_or_later
from pressroom.enqueue.envelope import run_named_in
from pressroom.execution import settle
from pressroom.text import carried
from pressroom.worker.request_metrics import ENDS_WORKER

logger = logging.getLogger(__name__)

# The stubs know half of this class.
_Consumer: Any = Consumer


class UnreadableMessageError(Exception):
    """No worker can make a task of a run's message."""


class LedgerConsumer(_Consumer):  # type: ignore[misc]  # see _Consumer
    """Used by setting (`worker_consumer`)."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """As Celery's, whose errors end the worker."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            try:
                handle(message)
            except (*self.connection_errors, *ENDS_WORKER):
                raise
            except BaseException as error:
                logger.exception("a message could not be taken")
                self._set_aside(message, f"cannot be taken: {error!r}")

        return on_task_received

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A name from a newer release, or of nothing at all: a run of ours waits, any other message is kept."""
        name, run = message.headers.get("task"), run_named_in(message.headers)
        if run is None or name is None:
            self._set_aside(message, f"no task is called {name or message.payload['task']!r}")
            return
        logger.warning("no task is called %r here: run %s waits for a worker that knows it", name, run[0])
        write_now_or_later(lambda: settle.defer_unknown_task(run[0], name))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """No task is named in it."""
        self._set_aside(message, "names no task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Its body is not what it says."""
        self._set_aside(message, f"cannot be decoded: {exc!r}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Not the parts that a task's message has, or a serializer that is not accepted."""
        self._set_aside(message, f"is no task's message: {exc!r}")

    def _set_aside(self, message: Any, reason: str) -> None:
        """A run is a dead letter, any other message is kept whole."""
        reason = carried(reason)
        run = run_named_in(message.headers)
        if run is not None:
            run_id, attempt = run
            logger.error("the message of run %s %s", run_id, reason)
            error = UnreadableMessageError(f"Its message {reason}")
            write_now_or_later(lambda: settle.fail_unclaimed(run_id, error, attempt))
            return
        queue = message.delivery_info.get("routing_key") or "?"
        logger.error("a message in queue %s %s: kept", carried(queue), reason)
        raw = undeliverable.as_raw(message)
        write_now_or_later(lambda: undeliverable.keep(carried(queue), raw, reason))
