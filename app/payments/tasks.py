"""Payment of orders. A task fetches by id and calls a service."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task


@shared_task(bind=True, queue="default")
def process_payment(self: Any, order_id: str) -> str:
    """Charge an order. Returns its status: a declined payment is an outcome, not a failure of this task.

    Where Stripe does not answer it is asked again, three times, a minute apart. Given up, the order stays
    `processing`, for nobody knows: run the dead letter again, or wait for Stripe's webhook.
    """
    from app.payments import services  # loads Stripe's client, which few processes need

    try:
        return services.order_charge(order_id=UUID(order_id))
    except services.Unavailable as error:
        raise self.retry(exc=error, countdown=60, max_retries=3) from error
