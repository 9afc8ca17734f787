"""kombu's Redis transport for workers: what is no message in a queue's list ends no worker and is not lost."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, Transport

from app.taskruns.messages import HEADER

logger = logging.getLogger(__name__)


def _is_message(item: bytes | str) -> bool:
    """Whether kombu can take it apart: it would end the worker otherwise."""
    try:
        decoded = json.loads(item)
        base64.b64decode(decoded["body"], validate=True).decode()
        headers = decoded.get("headers") or {}
        names_task = isinstance(headers.get("task", ""), str)
        names_run = HEADER not in headers or isinstance(headers[HEADER]["id"], str)
        encoding = decoded["properties"].get("body_encoding")
        return bool(decoded["properties"]["delivery_tag"]) and encoding == "base64" and names_task and names_run
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


# The stubs do not know the transport's inside.
_Channel: Any = Channel


class LedgerChannel(_Channel):  # type: ignore[misc]  # see _Channel
    """kombu's, which keeps what is no message of its own format."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)
        parse = client.parse_response

        def parse_response(connection: Any, command_name: str, **options: Any) -> Any:
            reply = parse(connection, command_name, **options)
            if command_name != "BRPOP" or not reply or _is_message(reply[1]):
                return reply
            # Not before Django's apps are ready, which this module may be.
            from app.taskruns.request import write_now_or_later
            from app.taskruns.undeliverable import keep

            key, item = reply
            queue = (key.decode() if isinstance(key, bytes) else key).split(self.sep, 1)[0]
            raw = item if isinstance(item, bytes) else item.encode()
            logger.error("a message in queue %s is none of Celery's: kept, %s bytes", queue, len(raw))
            write_now_or_later(lambda: keep(queue, raw, "not in the format of Celery's messages"))
            return None

        client.parse_response = parse_response
        return client


class LedgerTransport(Transport):
    Channel = LedgerChannel


def install() -> None:
    """Have this process read Redis through it; to be called before the first connection is thought of."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:LedgerTransport"
