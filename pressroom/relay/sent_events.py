"""Celery's ``task-sent`` events, for celery-exporter and Flower. The relay sends the messages, and so the events."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from celery import current_app

from pressroom.sql.dispatch import Published

logger = logging.getLogger(__name__)

TOGETHER = 100
"""Events of one message, as a worker sends its own. The messages of their runs wait for them."""


class SentEvents:
    """Sends events, best effort as all of Celery's: an event that Redis does not accept is dropped."""

    def __init__(self) -> None:
        self._dispatcher: Any = None

    def send(self, rows: Iterable[Published]) -> None:
        """Send an event for each published run. Raises no Exception."""
        try:
            if self._dispatcher is None:
                self._dispatcher = current_app.events.Dispatcher(
                    current_app.connection_for_write(), buffer_while_offline=False, buffer_group={"task"},
                    buffer_limit=TOGETHER,
                )  # fmt: skip
            for row in rows:
                if described := _described(row):
                    self._dispatcher.send("task-sent", **described)
            self._dispatcher.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, the messages go on
            logger.warning("task-sent events could not be sent: %s", error)
            self._dispatcher = None


def _described(row: Published) -> dict[str, Any] | None:
    """Return the event's fields, or None if the row cannot be read."""
    try:
        return fields(row)
    except Exception:
        logger.exception("the task-sent event of the run %s cannot be sent", row.run_id)
        return None


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
