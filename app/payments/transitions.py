"""From one status of an order to the next, each step by one conditional UPDATE. Loads no client of Stripe's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.payments.models import Order


def move(order_id: UUID, *from_: Order.Status, to: dict[str, Any], **which: Any) -> bool:
    """False where the order is in none of the statuses ``from_``, or not the one that is meant by ``which``."""
    return bool(Order.objects.filter(pk=order_id, status__in=from_, **which).update(**to))


def order_interrupt(*, order_id: UUID, task_id: str, reason: str) -> bool:
    """The task that was to pay it has ended, and left it processing. False where it did not, or another one pays it."""
    return move(
        order_id, Order.Status.PROCESSING, task_id=task_id, to={"status": Order.Status.INTERRUPTED, "failure": reason}
    )


def order_resume(*, order_id: UUID, task_id: str) -> bool:
    """The task that was to pay it runs again. False where the order does not wait for that any more."""
    return move(
        order_id, Order.Status.INTERRUPTED, task_id=task_id, to={"status": Order.Status.PROCESSING, "failure": ""}
    )
