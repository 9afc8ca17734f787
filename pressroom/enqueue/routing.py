"""Where a call goes: to a queue that the project declares, or nowhere, which the caller hears at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.app.routes import Router
from celery.exceptions import ImproperlyConfigured, QueueNotFound
from kombu import Queue

_Router: Any = Router
"""The stubs do not know it."""


class UndeclaredQueue(QueueNotFound, ImproperlyConfigured):
    """A call names a queue that is not declared. Celery's own name for it, and the documented one."""

    def __str__(self) -> str:
        # A KeyError would show the repr of its text.
        return str(self.args[0])


class LedgerRouter(_Router):  # type: ignore[misc]  # see _Router
    """Celery's, for which queue, exchange and routing key are three ways to name one declared queue.

    Each of them is resolved where it is given: by the call, the task or the routes. Raises UndeclaredQueue.
    """

    def expand_destination(self, route: Any) -> dict[str, Any]:
        """The options with the declared queue as ``queue``, where they name one at all."""
        if isinstance(route, str):
            return {"queue": self._declared(route)}
        if not isinstance(route, Mapping):
            raise UndeclaredQueue(f"a route is the name of a queue or a mapping of options, not {route!r}")
        options = dict(route)
        named = (options.pop(name, None) for name in ("queue", "exchange", "routing_key"))
        queue = self._resolve(*named)
        return options if queue is None else {**options, "queue": queue}

    def _resolve(self, queue: Any, exchange: Any, key: str | None) -> Queue | None:
        """The queue that all which is given agrees on; None where nothing is."""
        exchange = getattr(exchange, "name", exchange) or None  # "" is AMQP's default: the queues themselves
        if queue is None and exchange is None and key is None:
            return None
        candidates = list(self.queues.values()) if queue is None else [self._declared(queue)]
        for one in candidates:
            if exchange in (None, one.exchange.name) and key in (None, one.routing_key):
                return one
        given = {"queue": getattr(queue, "name", queue), "exchange": exchange, "routing_key": key}
        told = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        raise UndeclaredQueue(f"no queue has {told}; {self._choice()}")

    def _declared(self, queue: Any) -> Queue:
        name = queue.name if isinstance(queue, Queue) else queue
        try:
            found: Queue = self.queues[name]
        except (KeyError, TypeError):
            raise UndeclaredQueue(f"no queue {name!r}; {self._choice()}") from None
        return found

    def _choice(self) -> str:
        return f"TASKRUNS_QUEUES declares {', '.join(sorted(self.queues))}"
