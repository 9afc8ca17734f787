"""kombu's Redis transport for workers. An item of a queue's list that is no message ends no worker and is kept."""

from __future__ import annotations

import base64
import json
import logging
import time
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, Transport
from redis import ResponseError

from pressroom.database.redis import is_away, with_verify_flags
from pressroom.enqueue.envelope import HEADER, run_named_in

logger = logging.getLogger(__name__)

REFUSED_FOR = 5.0
"""Seconds until a queue that Redis refused to read is tried again."""


def _is_message(item: bytes | str) -> bool:
    """Return whether kombu can decode the item. One that it cannot decode would end the worker."""
    try:
        decoded = json.loads(item)
        base64.b64decode(decoded["body"], validate=True).decode()
        headers, properties = decoded.get("headers") or {}, decoded["properties"]
        described = (decoded.get("content-type", ""), decoded.get("content-encoding", ""))
        names_queue = isinstance(properties["delivery_info"]["routing_key"], str)
        names_task = isinstance(headers.get("task", ""), str)
        names_run = HEADER not in headers or (run_named_in(headers) is not None and "eta" in headers[HEADER])
        is_whole = all(isinstance(text, str) for text in (*described, properties["delivery_tag"]))
        return is_whole and properties.get("body_encoding") == "base64" and names_queue and names_task and names_run
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


# The stubs do not cover the internals of the transport.
_Channel: Any = Channel


class LedgerChannel(_Channel):  # type: ignore[misc]  # see _Channel
    """kombu's channel. Keeps items that are no messages, and pauses a queue that Redis refuses to read."""

    _refused: frozenset[str] = frozenset()
    _refused_at = 0.0

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """As kombu's, with the flags of ``ssl_…_verify_flags`` parsed."""
        return with_verify_flags(super()._connparams(asynchronous=asynchronous))

    def _update_queue_cycle(self) -> None:
        self._queue_cycle.update(queue for queue in self.active_queues if queue not in self._refused)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._refused and time.monotonic() - self._refused_at > REFUSED_FOR:
            self._refused = frozenset()
            self._update_queue_cycle()
        super()._brpop_start(timeout)

    def _leave_alone(self, error: Exception) -> None:
        """Find the queues that Redis refuses to read and pause them."""

        def is_list(client: Any, queue: str) -> bool:
            try:
                return client.type(queue) in (b"list", b"none", "list", "none")
            except ResponseError:
                return False

        with self.conn_or_acquire() as client:
            refused = frozenset(queue for queue in self.active_queues if not is_list(client, queue))
        # If every queue is a list, Redis refuses the command itself.
        self._refused = refused or frozenset(self.active_queues)
        self._refused_at = time.monotonic()
        self._update_queue_cycle()
        logger.error("Redis refuses to read the queues %s: %s", ", ".join(sorted(self._refused)), error)

    def _purge(self, queue: str) -> int:
        """Cancel the queue's waiting runs and empty its list, which the relay would otherwise fill again.

        Returns how many tasks that were.
        """
        from celery import current_app

        from pressroom.celery_app.control import cancel_queue

        current_app.set_up_django()  # type: ignore[attr-defined]  # LedgerCelery's
        cancelled, published = cancel_queue(queue)
        messages: int = super()._purge(queue)
        return cancelled + max(messages - published, 0)

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)
        parse = client.parse_response

        def parse_response(connection: Any, command_name: str, **options: Any) -> Any:
            try:
                reply = parse(connection, command_name, **options)
            except ResponseError as error:
                if command_name != "BRPOP" or is_away(error):
                    raise
                self._leave_alone(error)
                return None
            if command_name != "BRPOP" or not reply or _is_message(reply[1]):
                return reply
            # This module may be imported before Django's apps are ready.
            from pressroom.celery_app.undeliverable import keep
            from pressroom.database.deferred_writes import write_now_or_later

            key, item = reply
            queue = (key.decode() if isinstance(key, bytes) else key).split(self.sep, 1)[0]
            raw = item if isinstance(item, bytes) else item.encode()
            logger.error("kept a message in queue %s that is not Celery's: %s bytes", queue, len(raw))
            write_now_or_later(lambda: keep(queue, raw, "not in the format of Celery's messages"))
            return None

        client.parse_response = parse_response
        return client


class LedgerTransport(Transport):
    Channel = LedgerChannel


def install() -> None:
    """Make kombu use this transport for Redis. Call it before the first connection is set up."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:LedgerTransport"
