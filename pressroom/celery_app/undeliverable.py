"""Messages that no worker can make a task of: kept whole in Postgres, for somebody to look at or to put back."""

from __future__ import annotations

import base64
import json
from typing import Any

from pressroom.enqueue.broker import broker_client, prefixed
from pressroom.models import Undeliverable
from pressroom.text import carried


def keep(queue: str, message: bytes, reason: str) -> None:
    """Store a message as it stood in its list. Raises django.db.DatabaseError or InterfaceError."""
    Undeliverable.objects.create(queue=queue, message=message, reason=carried(reason))


def put_back(row: Undeliverable) -> None:
    """Give the message to its queue again. Raises redis.RedisError, and keeps it then."""
    broker_client(socket_timeout=2.0).lpush(prefixed(row.queue), bytes(row.message))
    row.delete()


def as_raw(message: Any) -> bytes:
    """A kombu message as it stood in its list, but for the order of its keys."""
    body = message.body if isinstance(message.body, bytes) else str(message.body or "").encode()
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": message.content_encoding,
            "content-type": message.content_type,
            "headers": message.headers,
            "properties": {**message.properties, "body_encoding": "base64", "delivery_tag": message.delivery_tag},
        },
        default=str,
    ).encode()
