"""What Stripe tells by its webhook: only if it is signed and fresh, and in any order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from stripe import WebhookSignature

from app.accounts.models import User
from app.payments.models import Order
from app.payments.services import order_begin_payment, order_create

pytestmark = pytest.mark.django_db
URL = "/api/payments/webhook/"
SECRET = "whsec_of_the_tests"


@pytest.fixture(autouse=True)
def secret(settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRET = SECRET


@pytest.fixture
def order(author: User) -> Order:
    order = order_create(owner=author, plan="monthly")
    order_begin_payment(order_id=order.pk, payment_method="pm_card_visa")
    Order.objects.filter(pk=order.pk).update(payment_intent="pi_1")
    return order


STATUS = {"succeeded": "succeeded", "payment_failed": "requires_payment_method", "canceled": "canceled"}


def event(what: str, intent: str = "pi_1") -> bytes:
    """https://docs.stripe.com/api/events/object"""
    failure = {"code": "card_declined", "message": "Your card was declined."} if what == "payment_failed" else None
    payment = {
        "id": intent, "object": "payment_intent", "status": STATUS.get(what, "processing"),
        "last_payment_error": failure,
    }  # fmt: skip
    return json.dumps(
        {"id": "evt_1", "object": "event", "type": f"payment_intent.{what}", "data": {"object": payment}}
    ).encode()


def signed(payload: bytes, secret: str = SECRET, age: int = 0) -> str:
    moment = int(time.time()) - age
    signature = WebhookSignature._compute_signature(f"{moment}.{payload.decode()}", secret)
    return f"t={moment},v1={signature}"


def send(payload: bytes, signature: str | None = None) -> Any:
    headers = {"Stripe-Signature": signed(payload) if signature is None else signature}
    return Client().post(URL, payload, content_type="application/json", headers=headers)


@pytest.mark.parametrize(
    ("events", "expected", "reason"),
    [
        (["succeeded"], "paid", ""),
        (["succeeded", "succeeded"], "paid", ""),
        (["payment_failed"], "failed", "Your card was declined."),
        (["payment_failed", "payment_failed"], "failed", "Your card was declined."),
        (["canceled"], "failed", "The payment did not succeed."),
        # Out of order: paid is the end, whenever it is told.
        (["succeeded", "payment_failed"], "paid", ""),
        (["payment_failed", "succeeded"], "paid", ""),
        (["created", "processing"], "processing", ""),
    ],
)
def test_events(order: Order, events: list[str], expected: str, reason: str) -> None:
    assert {send(event(what)).status_code for what in events} == {204}
    order.refresh_from_db()
    assert (order.status, order.failure, order.paid_at is not None) == (expected, reason, expected == "paid")


def test_an_event_that_comes_again_leaves_the_time_of_payment(order: Order) -> None:
    send(event("succeeded"))
    paid_at = Order.objects.get().paid_at
    send(event("succeeded"))
    assert Order.objects.get().paid_at == paid_at


def test_a_payment_that_is_not_ours(order: Order) -> None:
    assert send(event("succeeded", "pi_of_another")).status_code == 204
    assert Order.objects.get().status == "processing"


def test_an_order_whose_payment_is_not_made_is_nobodys(author: User) -> None:
    order_create(owner=author, plan="monthly")
    assert send(event("succeeded", "")).status_code == 204
    assert Order.objects.get().status == "pending"


@pytest.mark.parametrize(
    "signature",
    [
        lambda: "",
        lambda: "nonsense",
        lambda: "t=,v1=",
        lambda: "t=1,v1=00",
        lambda: signed(event("succeeded"), "whsec_of_another"),
        lambda: signed(event("succeeded"), age=301),
        lambda: signed(event("payment_failed")),
        lambda: signed(event("succeeded")).replace("v1=", "v0="),
    ],
)
def test_what_is_forged_or_old(order: Order, signature: Callable[[], str]) -> None:
    answer = send(event("succeeded"), signature())
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert Order.objects.get().status == "processing"


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"{}", b'{"object": "event"}'])
def test_what_is_signed_and_no_event(order: Order, payload: bytes) -> None:
    assert send(payload).status_code == 400
    assert Order.objects.get().status == "processing"


def test_bytes_that_are_no_text(order: Order) -> None:
    assert send(b"\xff\xfe", "t=1,v1=00").status_code == 400


def test_without_a_secret_nothing_is_believed(order: Order, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRET = ""
    payload = event("succeeded")
    assert send(payload, signed(payload, "")).status_code == 400
    assert Order.objects.get().status == "processing"
