"""Payment of orders. A task fetches by id and calls a service."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task

from app.payments import transitions
from pressroom.execution.end_hooks import End, Outcome


def payment_ended(end: End) -> None:
    """An order that its task has left unpaid may be paid again, by its owner or by running the task again."""
    order_id = UUID(end.args[0])
    if end.outcome is Outcome.RESTARTED:
        transitions.order_resume(order_id=order_id, task_id=end.celery_id)
    elif end.is_loss:
        reason = REASONS.get(end.outcome, STOPPED)
        transitions.order_interrupt(order_id=order_id, task_id=end.celery_id, reason=reason)


STOPPED = "The payment did not come to an end. Pay again: you are charged once."
REASONS = {
    Outcome.CANCELLED: "The payment was cancelled. Pay again if you want it: you are charged once.",
    Outcome.EXPIRED: "The payment was not begun in time. Pay again: you are charged once.",
}


ORDERED: dict[str, Any] = {"on_end": payment_ended, "owner_may_cancel": True}


@shared_task(bind=True, queue="default", **ORDERED)
def process_payment(self: Any, order_id: str) -> str:
    """Charge an order. Returns its status: a declined payment is an outcome, not a failure of this task.

    Where Stripe does not answer it is asked again, three times, a minute apart. Given up, the order is `interrupted`,
    for nobody knows: its owner pays again, somebody runs the dead letter again, or Stripe's webhook tells.
    """
    from app.payments import services  # loads Stripe's client, which few processes need

    try:
        return services.order_charge(order_id=UUID(order_id))
    except services.Unavailable as error:
        raise self.retry(exc=error, countdown=60, max_retries=3) from error
