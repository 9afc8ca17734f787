"""Celery's ``task-sent`` events, for celery-exporter and Flower. The relay sends the messages, and so the events."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import redis
from celery import current_app
from kombu.exceptions import OperationalError

from pressroom.sql.dispatch import Published

logger = logging.getLogger(__name__)

AWAY = (OperationalError, redis.RedisError, OSError)


class SentEvents:
    """Sends events, best effort as all of Celery's: an event that Redis does not accept is dropped."""

    def __init__(self) -> None:
        self._dispatcher: Any = None

    def send(self, rows: Iterable[Published]) -> None:
        """Send an event for each published run."""
        try:
            if self._dispatcher is None:
                connection = current_app.connection_for_write()
                self._dispatcher = current_app.events.Dispatcher(connection, buffer_while_offline=False)
            for row in rows:
                self._send_one(row)
        except AWAY as error:
            logger.warning("task-sent events could not be sent: %s", error)
            self._dispatcher = None

    def _send_one(self, row: Published) -> None:
        try:
            self._dispatcher.send("task-sent", **fields(row))
        except AWAY:
            raise
        except Exception:
            logger.exception("the task-sent event of the run %s cannot be sent", row.run_id)


def fields(row: Published) -> dict[str, Any]:
    """Return the event's fields, as Celery's own producer sets them."""
    headers = json.loads(row.headers)
    return {
        "uuid": headers["id"],
        "name": row.name,
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
        "retries": headers.get("retries", 0),
        "eta": headers.get("eta"),
        "expires": headers.get("expires"),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "queue": row.queue,
        "exchange": "",
        "routing_key": row.queue,
    }
