"""Keep messages that no worker can read whole in Postgres, so that an operator can look at them or put them back."""

from __future__ import annotations

import base64
import json
from typing import Any

from pressroom.enqueue.broker import broker_client, prefixed
from pressroom.models import Undeliverable
from pressroom.text import carried


def keep(queue: str, message: bytes, reason: str) -> None:
    """Store a message as it was in its list. Raises django.db.DatabaseError or InterfaceError."""
    Undeliverable.objects.create(queue=queue, message=message, reason=carried(reason))


def put_back(row: Undeliverable) -> None:
    """Push the message to its queue again and delete the row. Raises redis.RedisError and then keeps the row."""
    broker_client(socket_timeout=2.0).lpush(prefixed(row.queue), bytes(row.message))
    row.delete()


def as_raw(message: Any) -> bytes:
    """Return a kombu message as it was in its list, except for the order of its keys."""
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
