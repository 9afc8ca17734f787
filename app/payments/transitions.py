"""Changes of an order's status, each by one conditional UPDATE. This module does not load Stripe's client."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.payments.models import Order


def move(order_id: UUID, *from_: Order.Status, to: dict[str, Any], **which: Any) -> bool:
    """Update an order if its status is one of ``from_`` and it matches ``which``. Returns whether it was updated."""
    return bool(Order.objects.filter(pk=order_id, status__in=from_, **which).update(**to))


def order_interrupt(*, order_id: UUID, task_id: str, reason: str) -> bool:
    """Mark an order as interrupted, after its task ended without an answer.

    Returns False if the order is not processing or another task pays it.
    """
    return move(
        order_id, Order.Status.PROCESSING, task_id=task_id, to={"status": Order.Status.INTERRUPTED, "failure": reason}
    )


def order_resume(*, order_id: UUID, task_id: str) -> bool:
    """Mark an interrupted order as processing, because its task runs again. Returns False if its state has changed."""
    return move(
        order_id, Order.Status.INTERRUPTED, task_id=task_id, to={"status": Order.Status.PROCESSING, "failure": ""}
    )
