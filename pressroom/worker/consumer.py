"""A Celery consumer that survives every message. It sets aside a message that it cannot read, with the error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import NotRegistered
from celery.worker.consumer import Consumer
from redis import RedisError

from pressroom.celery_app import undeliverable
from pressroom.database.deferred_writes import write_now_or_later
from pressroom.database.redis import is_away
from pressroom.enqueue.envelope import run_named_in
from pressroom.execution import settle
from pressroom.text import carried
from pressroom.worker.request_metrics import ENDS_WORKER

logger = logging.getLogger(__name__)

# The stubs cover half of this class.
_Consumer: Any = Consumer


class UnreadableMessageError(Exception):
    """No worker can read the message of a run."""


class LedgerConsumer(_Consumer):  # type: ignore[misc]  # see _Consumer
    """Celery's consumer, with a handler for every unreadable message. Set by `worker_consumer`."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Wrap Celery's handler, whose errors would end the worker."""
        self._handle = handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            try:
                handle(message)
            except ENDS_WORKER:
                raise
            except BaseException as error:
                # Celery connects anew when the connection is gone. To kombu every KeyError and OSError means that: the
                # message would be lost, and those behind it that Celery has already read would be late.
                if isinstance(error, RedisError) and is_away(error):
                    raise
                logger.exception("a message could not be read")
                self._set_aside(message, f"cannot be read: {error!r}")

        return on_task_received

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Postpone a run whose task may belong to a newer release. Keep any other message."""
        name, run = message.headers.get("task"), run_named_in(message.headers)
        if name not in self.strategies and self._is_loaded(name):
            self._handle(message)
            return
        if run is None or name is None:
            self._set_aside(message, f"no task is called {name or message.payload['task']!r}")
            return
        logger.warning("this worker knows no task %r: run %s waits for a worker that does", name, run[0])
        write_now_or_later(lambda: settle.defer_unknown_task(run[0], name))

    def _is_loaded(self, name: Any) -> bool:
        """Return whether the registry finds the task after all: a ``@task`` in a module that nothing has imported."""
        try:
            task = self.app.tasks[name]
        except NotRegistered:
            return False
        self.strategies[name] = task.start_strategy(self.app, self)
        return True

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Set aside a message that names no task."""
        self._set_aside(message, "names no task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Set aside a message whose body cannot be decoded."""
        self._set_aside(message, f"cannot be decoded: {exc!r}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Set aside a message without the parts of a task's message, or in a serializer that is not accepted."""
        self._set_aside(message, f"is no task's message: {exc!r}")

    def _set_aside(self, message: Any, reason: str) -> None:
        """Make the message's run a dead letter. Keep a message without a run whole."""
        reason = carried(reason)
        run = run_named_in(message.headers)
        if run is not None:
            run_id, attempt = run
            logger.error("the message of run %s %s", run_id, reason)
            error = UnreadableMessageError(f"Its message {reason}")
            write_now_or_later(lambda: settle.fail_unclaimed(run_id, error, attempt))
            return
        queue = message.delivery_info.get("routing_key") or "?"
        logger.error("kept a message in queue %s: %s", carried(queue), reason)
        raw = undeliverable.as_raw(message)
        write_now_or_later(lambda: undeliverable.keep(carried(queue), raw, reason))
