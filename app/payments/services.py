"""The business logic of orders. It knows neither HTTP nor Celery.

Money moves at most once: the service creates the payment at Stripe and stores its id before it confirms the payment,
and Stripe confirms a payment only once. Idempotency keys avoid a second payment object when an answer is lost, but
correctness does not depend on them, because Stripe forgets them after a day.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import UUID

import stripe
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from app.payments.models import Order
from app.payments.prices import PLANS
from app.payments.transitions import move

TIMEOUT = 20.0
"""Seconds to wait for an answer from Stripe."""


class Unavailable(Exception):
    """Stripe did not answer or answered with an error. The state of the payment is unknown; ask again later."""


def order_create(*, owner: Any, plan: str) -> Order:
    """Create an order at the current price. Raises KeyError for an unknown plan."""
    price = PLANS[plan]
    return Order.objects.create(owner=owner, plan=plan, amount=price.amount, currency=price.currency)


def order_begin_payment(*, order_id: UUID, payment_method: str) -> bool:
    """Start the payment of a pending or interrupted order with ``payment_method``. Returns False for any other order.

    An interrupted order keeps its payment at Stripe, which is charged only once. Its next confirmation uses a new
    idempotency key.
    """
    begun: dict[str, Any] = {"status": Order.Status.PROCESSING, "payment_method": payment_method, "failure": ""}
    another_call = {"refused_calls": F("refused_calls") + 1}
    return move(order_id, Order.Status.PENDING, to=begun) or move(
        order_id, Order.Status.INTERRUPTED, to=begun | another_call
    )


def order_charge(*, order_id: UUID) -> str:
    """Charge an order that is processing. Returns the order's status. Repeated calls charge it only once.

    A declined payment is a result: the order becomes failed. Raises Order.DoesNotExist, Unavailable, and
    stripe.StripeError for errors of this site and not of the payment (a bad key or parameter).
    """
    order = Order.objects.get(pk=order_id)
    if order.status != Order.Status.PROCESSING:
        return order.status
    try:
        order_settle(intent=_confirmed(order))
    except stripe.CardError as error:
        _fail(order.pk, error.user_message or "The card was declined.")
    except stripe.InvalidRequestError as error:
        if error.param != "payment_method":
            raise
        _fail(order.pk, "The payment method is unknown.")
    except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError) as error:
        if (error.http_status or 0) >= 500:
            # Stripe repeats its answer to a repeated key, so the next call needs a new key.
            Order.objects.filter(pk=order.pk).update(refused_calls=F("refused_calls") + 1)
        raise Unavailable(f"Stripe: {type(error).__name__} {error.http_status or ''}".rstrip()) from error
    order.refresh_from_db(fields=["status"])
    return order.status


def _confirmed(order: Order) -> stripe.PaymentIntent:
    intents = client().v1.payment_intents
    if not order.payment_intent:
        made = intents.create(
            {
                "amount": order.amount,
                "currency": order.currency,
                "payment_method": order.payment_method,
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                "metadata": {"order": str(order.pk)},
            },
            {"idempotency_key": _key(order, "create")},
        )
        # Store the id before any money moves. If a concurrent call was faster, use its payment.
        Order.objects.filter(pk=order.pk, payment_intent="").update(payment_intent=made.id)
        order.refresh_from_db(fields=["payment_intent"])
    try:
        # Nobody is present to answer a question, so Stripe must decline a payment that would ask the customer.
        return intents.confirm(
            order.payment_intent,
            {"payment_method": order.payment_method, "error_on_requires_action": True},
            {"idempotency_key": _key(order, "confirm")},
        )
    except stripe.InvalidRequestError as error:
        if error.code != "payment_intent_unexpected_state":
            raise
        return intents.retrieve(order.payment_intent)


def _key(order: Order, step: str) -> str:
    return f"order-{order.pk}-{step}-{order.refused_calls}"


def order_settle(*, intent: stripe.PaymentIntent) -> bool:
    """Set the order of a payment to the status that Stripe reports. Returns False if nothing changed.

    Calls may come in any order and any number of times. A paid order stays paid, whatever earlier or later events say.
    A payment without an order here is ignored, because it belongs to somebody else.
    """
    orders = Order.objects.filter(payment_intent=intent.id).exclude(payment_intent="")
    if intent.status == "succeeded":
        unpaid = orders.exclude(status=Order.Status.PAID)
        return bool(unpaid.update(status=Order.Status.PAID, paid_at=timezone.now(), failure=""))
    if intent.status in ("requires_payment_method", "canceled"):
        error = getattr(intent, "last_payment_error", None)
        reason = getattr(error, "message", None) or "The payment did not succeed."
        return any(_fail(pk, reason) for pk in orders.values_list("pk", flat=True))
    return False


def event_verify(*, payload: bytes, signature: str) -> stripe.Event:
    """Verify and return a webhook's event.

    Raises ValueError for an invalid body and stripe.SignatureVerificationError for a forged or old signature.
    """
    try:
        event: stripe.Event = stripe.Webhook.construct_event(payload, signature, settings.STRIPE_WEBHOOK_SECRET)
        event.type, event.data.object  # noqa: B018 - raises AttributeError if the body lacks them
    except AttributeError as error:
        raise ValueError("the body is signed but is not an event") from error
    return event


def event_handle(*, event: stripe.Event) -> bool:
    """Apply an event to its order. Returns False if nothing changed."""
    if event.type not in ("payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled"):
        return False
    return order_settle(intent=event.data.object)  # type: ignore[arg-type]  # These event types carry a PaymentIntent.


def _fail(order_id: UUID, reason: str) -> bool:
    to = {"status": Order.Status.FAILED, "failure": reason}
    return move(order_id, Order.Status.PROCESSING, Order.Status.INTERRUPTED, to=to)


def client() -> stripe.StripeClient:
    """Return a client of Stripe's API. It does not retry, because the task does."""
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@cache
def _client(key: str, base: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": base},
        http_client=stripe.HTTPXClient(timeout=TIMEOUT, allow_sync_methods=True),
        max_network_retries=0,
    )
