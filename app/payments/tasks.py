"""The task that pays orders. It loads the order by id and calls a service."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task

from app.payments import transitions
from pressroom.execution.end_hooks import End, Outcome


def payment_ended(end: End) -> None:
    """Record that a task left its order unpaid, or that it runs again. The order can then be paid again."""
    order_id = UUID(end.args[0])
    if end.outcome is Outcome.RESTARTED:
        transitions.order_resume(order_id=order_id, task_id=end.celery_id)
    elif end.is_loss:
        reason = REASONS.get(end.outcome, STOPPED)
        transitions.order_interrupt(order_id=order_id, task_id=end.celery_id, reason=reason)


STOPPED = "The payment was not completed. You can pay again. You will be charged only once."
REASONS = {
    Outcome.CANCELLED: "The payment was cancelled. You can pay again. You will be charged only once.",
    Outcome.EXPIRED: "The payment did not start in time. You can pay again. You will be charged only once.",
}


ORDERED: dict[str, Any] = {"on_end": payment_ended, "owner_may_cancel": True}


@shared_task(bind=True, queue="default", **ORDERED)
def process_payment(self: Any, order_id: str) -> str:
    """Charge an order. Returns its status. A declined payment is a result, not a failure of this task.

    If Stripe does not answer, the task retries three times, a minute apart. If it then becomes a dead letter, the order
    is `interrupted`, because the state of the payment is unknown. It can be settled in three ways: the owner pays
    again, an operator runs the dead letter again, or Stripe's webhook reports the payment.
    """
    from app.payments import services  # loads Stripe's client, which few processes need

    try:
        return services.order_charge(order_id=UUID(order_id))
    except services.Unavailable as error:
        raise self.retry(exc=error, countdown=60, max_retries=3) from error
