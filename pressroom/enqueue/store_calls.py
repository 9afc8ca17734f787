"""From a call to a row: ``delay()``, ``apply_async()``, ``send_task()``, retries and callbacks all end here.

Celery builds and routes the message as usual. Instead of sending it to the broker, this module stores it in the ledger,
in the caller's transaction. The relay publishes it once it is committed and due.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app.amqp import AMQP, task_message
from celery.exceptions import ImproperlyConfigured
from kombu import Queue

from pressroom import context, tracing
from pressroom.enqueue import arguments, buffer
from pressroom.enqueue.argument_repr import argument_repr
from pressroom.enqueue.envelope import HEADER, envelope
from pressroom.enqueue.limits import lane_of
from pressroom.enqueue.ownership import current_owner_id
from pressroom.enqueue.routing import LedgerRouter
from pressroom.enqueue.time_limits import time_limits
from pressroom.enqueue.unique_calls import UniqueCall
from pressroom.enqueue.wakeup import waker
from pressroom.sql import runs

if TYPE_CHECKING:
    from pressroom.celery_app.app import LedgerCelery

logger = logging.getLogger(__name__)

DELIVERY_OPTIONS = frozenset(
    {
        "compression", "confirm_timeout", "content_encoding", "content_type", "declare", "delivery_mode",
        "event_dispatcher", "exchange_type", "expiration", "immediate", "mandatory", "retry", "retry_policy", "timeout",
    }
)  # fmt: skip
"""Options of a call that concern only its delivery to a broker. Other unknown ones (``app_id``) go to the message."""


class LedgerAMQP(AMQP):
    """Celery's message layer, which stores the calls of tasks in the ledger instead of sending them to the broker."""

    app: LedgerCelery
    # Celery's default is 1,024. The body has all arguments, and Postgres keeps each message for days.
    argsrepr_maxsize = kwargsrepr_maxsize = 256

    @property
    def create_task_message(self) -> Any:
        """Always protocol 2, whatever ``task_protocol`` says: the ledger stores calls in this form."""
        return self.as_task_v2

    def as_task_v2(  # type: ignore[no-untyped-def]  # Celery's own signature, of which five names matter here
        self, task_id, name, args=None, kwargs=None, countdown=None, eta=None, group_id=None, group_index=None,
        expires=None, *rest, **options,
    ) -> task_message:  # fmt: skip
        """As Celery's, but keep ``countdown`` and ``expires`` as seconds: they count by the database's clock."""
        arguments.check_times(name, countdown, eta, expires)
        arguments.check_stamps(name, options)
        for option, values in (("argsrepr", args or ()), ("kwargsrepr", kwargs or {})):
            if options.get(option) is None:
                options[option] = argument_repr(values, self.argsrepr_maxsize, self._repr_levels)
        message = super().as_task_v2(
            task_id, name, args, kwargs, countdown, eta, group_id, group_index, expires, *rest, **options
        )
        message.headers[HEADER] = {
            "countdown": countdown,
            "expires_in": expires if isinstance(expires, int | float) else None,
        }
        return message

    def _repr_levels(self) -> int:
        levels: int = self.app.conf.task_repr_maxlevels
        return levels

    def TaskConsumer(self, channel: Any, *arguments: Any, **options: Any) -> Any:  # noqa: N802 - Celery's name
        """As Celery's, but a worker consumes without acknowledgement: the row, not Redis, records unfinished work.

        If Redis goes away while a message waits for its acknowledgement, the worker ends, because kombu restores the
        message on a closed connection. Each acknowledgement also costs Redis five commands.
        """
        # Only a worker passes this option. Celery's commands (`migrate`) must leave the messages where they are.
        no_ack = "on_decode_error" in options
        return super().TaskConsumer(channel, *arguments, no_ack=no_ack, **options)

    def Router(self, queues: Any = None, create_missing: bool | None = None) -> LedgerRouter:  # noqa: N802 - Celery's
        """Return the router that decides which queue a call goes to."""
        create = self.app.either("task_create_missing_queues", create_missing)
        return LedgerRouter(self.routes, queues or self.queues, create, app=self.app)

    def _create_task_sender(self) -> Callable[..., None]:
        def send_task_message(
            producer: Any,
            name: str,
            message: task_message,
            exchange: Any = None,
            routing_key: str | None = None,
            queue: str | Queue | None = None,
            serializer: str | None = None,
            headers: dict[str, Any] | None = None,
            priority: int | None = None,
            has_new_id: bool = False,
            unique_call: UniqueCall | None = None,
            **options: Any,
        ) -> None:
            queue_name = self._queue_name(queue=queue, exchange=exchange, routing_key=routing_key)
            if serializer not in (None, "json"):
                raise ImproperlyConfigured(f"{name}: tasks are sent as JSON, not with the serializer {serializer!r}")
            added = arguments.added_headers(name, message.headers, headers)
            all_headers = {**message.headers, **added}
            others = {option: value for option, value in options.items() if option not in DELIVERY_OPTIONS}
            properties = {**message.properties, **others, "priority": arguments.check_priority(name, priority)}
            signals.before_task_publish.send(
                sender=name, body=message.body, exchange="", routing_key=queue_name, declare=[],
                headers=all_headers, properties=properties, retry_policy={},
            )  # fmt: skip
            expires = all_headers["expires"]
            row = self._as_row(name, queue_name, all_headers, message.body, properties)
            if unique_call is not None or self._is_durable(row, all_headers):
                if not self._record(row, has_new_id, unique_call):
                    return
            else:
                # There is no row, so the message has to say when it expires.
                self._send(row, {**all_headers, "expires": expires})
            signals.after_task_publish.send(
                sender=name, body=message.body, headers=all_headers, exchange="", routing_key=queue_name
            )

        return (
            send_task_message if tracing.active is None else tracing.active.sender(self._queue_name, send_task_message)
        )

    def _queue_name(self, **destination: Any) -> str:
        """Return the queue's name. Raises UndeclaredQueue, an ImproperlyConfigured, if it is not declared."""
        queue = destination.get("queue")
        is_alone = destination.get("exchange") is destination.get("routing_key") is None
        if is_alone and isinstance(queue, Queue) and self.queues.get(queue.name) is queue:
            # The router has found it: nothing is left to look for.
            return str(queue.name)
        found: Queue = self.router.expand_destination(destination).get("queue", self.default_queue)
        return found.name

    def _as_row(
        self, name: str, queue: str, headers: dict[str, Any], body: Any, properties: dict[str, Any]
    ) -> runs.Message:
        task = self.app.tasks.get(name)
        relative = headers.pop(HEADER)
        # The times stay in the row: a worker would hold back or drop a message that carries them.
        headers[HEADER] = {"eta": headers["eta"]}
        eta = arguments.moment(name, "eta", headers["eta"])
        expires = arguments.moment(name, "expires", headers["expires"])
        arguments.check_headers(name, headers)
        headers |= {
            "eta": None,
            "expires": None,
            "timelimit": time_limits(task, queue, headers["timelimit"]),
        }
        texts = [arguments.encoded(name, part) for part in (headers, body, properties)]
        arguments.check_size(name, *texts)
        arguments.check_signatures(name, body[2])
        return runs.Message(
            celery_id=headers["id"],
            name=name,
            queue=queue,
            priority=properties["priority"],
            headers=texts[0],
            body=texts[1],
            properties=texts[2],
            eta=None if relative["countdown"] is not None else eta,
            countdown=relative["countdown"],
            expires=None if relative["expires_in"] is not None else expires,
            expires_in=relative["expires_in"],
            owner_id=current_owner_id(),
            lane=lane_of(task, queue, body[0], body[1]),
        )

    def _is_durable(self, row: runs.Message, headers: dict[str, Any]) -> bool:
        """Return whether to store the call. Only plain calls of a task with ``durable=False`` are not stored.

        A call of that task is stored all the same if it is due later, if it waits for its queue's limit, if it is part
        of a group or if it continues a stored run.
        """
        if row.lane is not None or getattr(self.app.tasks.get(row.name), "durable", True):
            return True
        running = context.current()
        goes_on = running is not None and running.celery_id == row.celery_id
        return goes_on or row.eta is not None or row.countdown is not None or headers["group"] is not None

    def _record(self, row: runs.Message, has_new_id: bool, unique: UniqueCall | None) -> bool:
        """Store the call. Returns False if it is unique and another call was first."""
        if unique is not None:
            row = dataclasses.replace(row, unique=(unique.key, unique.seconds))
        running = context.current()
        if running is not None and running.keep(row):
            return True
        if unique is None:
            buffer.store(row, hold=has_new_id)
            return True
        first = buffer.store_unique(row, unique.key, unique.seconds)
        unique.taken_by = None if first == row.celery_id else first
        return unique.taken_by is None

    def _send(self, row: runs.Message, headers: dict[str, Any]) -> None:
        """Send the message to Redis after the caller's commit. It is lost if Redis does not accept it."""
        plain = {name: value for name, value in headers.items() if name != HEADER}
        message = envelope(row.queue, arguments.encoded(row.name, plain), row.body, row.properties)
        running = context.current()
        if running is not None and running.finishing:
            running.after_finish(lambda: waker.send(row.queue, message))
        else:
            buffer.after_commit(lambda: waker.send(row.queue, message))
