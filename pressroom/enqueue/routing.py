"""Routing: a call goes to a queue that the project declares. Any other queue is an error at the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.app.routes import Router
from celery.exceptions import ImproperlyConfigured, QueueNotFound
from kombu import Queue

_Router: Any = Router
"""The stubs do not have this class."""


class UndeclaredQueue(QueueNotFound, ImproperlyConfigured):
    """A call names a queue that is not declared.

    This is both Celery's exception for it (QueueNotFound) and the documented one (ImproperlyConfigured).
    """

    def __str__(self) -> str:
        # QueueNotFound is a KeyError, which would show the repr of its text.
        return str(self.args[0])


class LedgerRouter(_Router):  # type: ignore[misc]  # see _Router
    """Celery's router. It takes queue, exchange and routing key as three ways to name one declared queue.

    The call, the task and the routes may each name it. Raises UndeclaredQueue for any other queue.
    """

    def expand_destination(self, route: Any) -> dict[str, Any]:
        """Return the options with the declared queue as ``queue``, or without it if they name no queue."""
        if isinstance(route, str):
            return {"queue": self._declared(route)}
        if not isinstance(route, Mapping):
            raise UndeclaredQueue(f"a route must be the name of a queue or a mapping of options, not {route!r}")
        options = dict(route)
        named = (options.pop(name, None) for name in ("queue", "exchange", "routing_key"))
        queue = self._resolve(*named)
        return options if queue is None else {**options, "queue": queue}

    def _resolve(self, queue: Any, exchange: Any, key: str | None) -> Queue | None:
        """Return the queue that matches everything that is given, or None if nothing is given."""
        exchange = getattr(exchange, "name", exchange) or None  # "" is AMQP's default exchange: the queues themselves
        if queue is None and exchange is None and key is None:
            return None
        candidates = list(self.queues.values()) if queue is None else [self._declared(queue)]
        for one in candidates:
            if exchange in (None, one.exchange.name) and key in (None, one.routing_key):
                return one
        given = {"queue": getattr(queue, "name", queue), "exchange": exchange, "routing_key": key}
        wanted = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        raise UndeclaredQueue(f"no queue has {wanted}; {self._choice()}")

    def _declared(self, queue: Any) -> Queue:
        name = queue.name if isinstance(queue, Queue) else queue
        try:
            found: Queue = self.queues[name]
        except (KeyError, TypeError):
            raise UndeclaredQueue(f"no queue {name!r}; {self._choice()}") from None
        return found

    def _choice(self) -> str:
        return f"TASKRUNS_QUEUES declares {', '.join(sorted(self.queues))}"
