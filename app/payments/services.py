"""What is done with orders. Knows nothing of HTTP and nothing of Celery.

Money moves at most once: the payment is made at Stripe and its id stored before it is confirmed, and Stripe confirms
a payment once. Idempotency keys spare a second payment where an answer was lost; nothing rests on them alone, for
Stripe forgets them after a day.
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
"""Seconds for an answer of Stripe."""


class Unavailable(Exception):
    """Stripe did not answer, or not as it should: how the payment stands is not known, and asked again later."""


def order_create(*, owner: Any, plan: str) -> Order:
    """An order at today's price. Raises KeyError for a plan that there is not."""
    price = PLANS[plan]
    return Order.objects.create(owner=owner, plan=plan, amount=price.amount, currency=price.currency)


def order_begin_payment(*, order_id: UUID, payment_method: str) -> bool:
    """Move an order on that is pending or interrupted, to be charged to ``payment_method``. False for any other.

    An interrupted one keeps its payment at Stripe, which is charged once; the call that confirms it is another one.
    """
    begun: dict[str, Any] = {"status": Order.Status.PROCESSING, "payment_method": payment_method, "failure": ""}
    another_call = {"refused_calls": F("refused_calls") + 1}
    return move(order_id, Order.Status.PENDING, to=begun) or move(
        order_id, Order.Status.INTERRUPTED, to=begun | another_call
    )


def order_charge(*, order_id: UUID) -> str:
    """Charge an order that is processing, once, however often this is called. Returns the order's status.

    A payment that is declined is an outcome: the order has failed. Raises Order.DoesNotExist, Unavailable, and
    stripe.StripeError for what is wrong with us and not with the payment (a key, a parameter).
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
        _fail(order.pk, "The payment method is not known.")
    except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError) as error:
        if (error.http_status or 0) >= 500:
            # Stripe gives the same answer to the same key again: the next call needs a new one.
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
        # Before any money moves. Where another was faster, its payment is the one.
        Order.objects.filter(pk=order.pk, payment_intent="").update(payment_intent=made.id)
        order.refresh_from_db(fields=["payment_intent"])
    try:
        # Nobody sits before a screen: what would ask the customer is a decline.
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
    """Bring the order of a payment to where Stripe says it is. False where nothing changed.

    In any order and any number of times: paid is the end, whatever was told before, and nothing that is told later
    undoes it; an order that is not known is another's.
    """
    orders = Order.objects.filter(payment_intent=intent.id).exclude(payment_intent="")
    if intent.status == "succeeded":
        unpaid = orders.exclude(status=Order.Status.PAID)
        return bool(unpaid.update(status=Order.Status.PAID, paid_at=timezone.now(), failure=""))
    if intent.status in ("requires_payment_method", "canceled"):
        error = getattr(intent, "last_payment_error", None)
        reason = getattr(error, "message", None) or "The payment did not go through."
        return any(_fail(pk, reason) for pk in orders.values_list("pk", flat=True))
    return False


def event_verify(*, payload: bytes, signature: str) -> stripe.Event:
    """A webhook's event. Raises ValueError for a body that is none, stripe.SignatureVerificationError for a forged
    or old signature.
    """
    try:
        event: stripe.Event = stripe.Webhook.construct_event(payload, signature, settings.STRIPE_WEBHOOK_SECRET)
        event.type, event.data.object  # noqa: B018 - read, so that their absence is told here
    except AttributeError as error:
        raise ValueError("signed, but no event") from error
    return event


def event_handle(*, event: stripe.Event) -> bool:
    """What Stripe says happened. False where it changes nothing."""
    if event.type not in ("payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled"):
        return False
    return order_settle(intent=event.data.object)  # type: ignore[arg-type]  # a payment, by the event's type


def _fail(order_id: UUID, reason: str) -> bool:
    to = {"status": Order.Status.FAILED, "failure": reason}
    return move(order_id, Order.Status.PROCESSING, Order.Status.INTERRUPTED, to=to)


def client() -> stripe.StripeClient:
    """Stripe's API with our key; it tries nothing again by itself, for that is the task's to do."""
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@cache
def _client(key: str, base: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": base},
        http_client=stripe.HTTPXClient(timeout=TIMEOUT, allow_sync_methods=True),
        max_network_retries=0,
    )
