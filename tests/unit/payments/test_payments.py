"""Orders: paid once, whatever Stripe answers or does not. By a recorded contract, for stripe-mock knows no failure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import stripe as stripe_library
from django.test import Client
from rest_framework.test import APIClient

from app.accounts.models import User
from app.checks import external_services as checks
from app.payments.models import Order
from app.payments.prices import PLANS
from app.payments.services import Unavailable, order_begin_payment, order_charge, order_create
from pressroom.models import TaskRun
from tests.unit.payments.stripe_contract import Stripe, lost_answer, rate_limit, stored_500, stripe_api, unreachable
from tests.unit.test_checks import ids

pytestmark = pytest.mark.django_db
ORDERS = "/api/orders/"
VISA = {"payment_method": "pm_card_visa"}


@pytest.fixture
def stripe(settings: Any) -> Iterator[Stripe]:
    with stripe_api() as server:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = "sk_test_loopback", server.web.url
        yield server


def begun(owner: User, method: str = "pm_card_visa") -> Order:
    order = order_create(owner=owner, plan="monthly")
    assert order_begin_payment(order_id=order.pk, payment_method=method)
    order.refresh_from_db()
    return order


# ---- Charging --------------------------------------------------------------------------------------------------------


def test_an_order_is_paid_once(author: User, stripe: Stripe) -> None:
    order = begun(author)
    assert [order_charge(order_id=order.pk) for _ in range(3)] == ["paid"] * 3
    order.refresh_from_db()
    assert order.paid_at is not None
    assert stripe.charges == [order.payment_intent]
    intent = stripe.intents[order.payment_intent]
    assert (intent["amount"], intent["currency"], intent["metadata"]) == (9_900, "krw", {"order": str(order.pk)})


@pytest.mark.parametrize("status", ["pending", "paid", "failed"])
def test_what_is_not_processing_is_left_alone(author: User, stripe: Stripe, status: str) -> None:
    order = order_create(owner=author, plan="yearly")
    Order.objects.filter(pk=order.pk).update(status=status)
    assert order_charge(order_id=order.pk) == status
    assert stripe.web.asked == []


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("pm_card_chargeDeclined", "Your card was declined."),
        ("pm_card_authenticationRequired", "Your card requires authentication."),
        ("pm_unknown", "The payment method is unknown."),
    ],
)
def test_a_decline_is_an_outcome(author: User, stripe: Stripe, method: str, reason: str) -> None:
    order = begun(author, method)
    assert [order_charge(order_id=order.pk) for _ in range(2)] == ["failed", "failed"]
    order.refresh_from_db()
    assert (order.failure, order.paid_at, stripe.charges) == (reason, None, [])


@pytest.mark.parametrize("step", ["create", "confirm"])
@pytest.mark.parametrize("fault", [stored_500, rate_limit, unreachable, lost_answer])
def test_what_passes_is_tried_again_and_charged_once(author: User, stripe: Stripe, step: str, fault: Any) -> None:
    order = begun(author)
    stripe.faults[step] = [fault]
    with pytest.raises(Unavailable):
        order_charge(order_id=order.pk)
    assert Order.objects.get(pk=order.pk).status == "processing"
    assert order_charge(order_id=order.pk) == "paid"
    assert len(stripe.charges) == 1
    # Only an answer that Stripe keeps under its key makes a new one needed.
    assert len(set(stripe.keys_of(step))) == (2 if fault is stored_500 else 1)


@pytest.mark.parametrize(("method", "expected", "charged"), [("visa", "paid", 1), ("chargeDeclined", "failed", 0)])
def test_the_answer_is_lost_and_the_key_forgotten(
    author: User, stripe: Stripe, method: str, expected: str, charged: int
) -> None:
    """A day later: nothing but the payment itself can tell."""
    order = begun(author, f"pm_card_{method}")
    stripe.faults["confirm"] = [lost_answer]
    with pytest.raises(Unavailable):
        order_charge(order_id=order.pk)
    stripe.remembered.clear()
    assert order_charge(order_id=order.pk) == expected
    assert len(stripe.charges) == charged


def test_a_wrong_key_of_ours_is_no_failed_payment(author: User, stripe: Stripe, settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_wrong"
    order = begun(author)
    with pytest.raises(stripe_library.AuthenticationError):
        order_charge(order_id=order.pk)
    assert Order.objects.get(pk=order.pk).status == "processing"


def test_payment_begins_once(author: User) -> None:
    order = begun(author)
    assert not order_begin_payment(order_id=order.pk, payment_method="pm_other")
    assert Order.objects.get(pk=order.pk).payment_method == "pm_card_visa"


# ---- The API ---------------------------------------------------------------------------------------------------------


def ordered(client: APIClient, plan: str = "monthly") -> dict[str, Any]:
    answer = client.post(ORDERS, {"plan": plan})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


@pytest.mark.parametrize("plan", PLANS)
def test_an_order_has_the_price_of_its_plan(as_author: APIClient, plan: str) -> None:
    order = ordered(as_author, plan)
    assert (order["amount"], order["currency"], order["status"]) == (
        PLANS[plan].amount,
        PLANS[plan].currency,
        "pending",
    )
    assert as_author.get(f"{ORDERS}{order['id']}/").json() == order
    assert as_author.get(ORDERS).json()["results"] == [order]


@pytest.mark.parametrize("body", [{}, {"plan": "free"}, {"plan": None}, {"plan": ["monthly"]}, {"amount": 1}])
def test_an_order_that_is_none(as_author: APIClient, body: Any) -> None:
    answer = as_author.post(ORDERS, body)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert not Order.objects.exists()


def test_a_client_names_no_amount(as_author: APIClient) -> None:
    assert as_author.post(ORDERS, {"plan": "monthly", "amount": 1, "status": "paid"}).json()["amount"] == 9_900


def test_orders_are_their_owners(as_author: APIClient, as_reader: APIClient, anonymous: APIClient) -> None:
    url = f"{ORDERS}{ordered(as_author)['id']}/"
    assert as_reader.get(url).status_code == as_reader.post(f"{url}pay/", VISA).status_code == 404
    assert as_reader.get(ORDERS).json()["results"] == []
    assert anonymous.get(url).status_code == anonymous.post(ORDERS, {"plan": "monthly"}).status_code == 401


def test_pay_is_accepted_and_is_one_task(as_author: APIClient, stripe: Stripe) -> None:
    url = f"{ORDERS}{ordered(as_author)['id']}/"
    first = as_author.post(f"{url}pay/", VISA)
    run = TaskRun.objects.get()
    assert (first.status_code, first.json()["name"]) == (202, "app.payments.tasks.process_payment")
    assert first["Location"].endswith(f"/api/tasks/{run.pk}/")
    assert first["Retry-After"] == "1"
    assert as_author.get(url).json()["status"] == "processing"
    again = as_author.post(f"{url}pay/", VISA)
    assert (again.status_code, again.json()["id"]) == (202, str(run.pk))
    assert [answer.json()["repeated"] for answer in (first, again)] == [False, True]
    assert as_author.post(f"{url}pay/", {"payment_method": "pm_other"}).status_code == 409
    assert TaskRun.objects.count() == 1
    assert stripe.web.asked == []


def test_pay_with_a_key_is_answered_the_same_after_the_end(as_author: APIClient, stripe: Stripe) -> None:
    url = f"{ORDERS}{ordered(as_author)['id']}/pay/"
    key = {"Idempotency-Key": "k1"}
    first = as_author.post(url, VISA, headers=key)
    Order.objects.update(status="paid")
    assert as_author.post(url, VISA, headers=key).content == first.content
    assert as_author.post(url, VISA).json()["detail"] == "The order is already paid."


@pytest.mark.parametrize("body", [{}, {"payment_method": ""}, {"payment_method": "4242424242424242"},
                                  {"payment_method": "pm_a\nb"}, {"payment_method": {"a": 1}}])  # fmt: skip
def test_pay_with_what_is_no_payment_method(as_author: APIClient, stripe: Stripe, body: Any) -> None:
    assert as_author.post(f"{ORDERS}{ordered(as_author)['id']}/pay/", body).status_code == 400
    assert Order.objects.get().status == "pending"


def test_pay_where_payments_are_not_set_up(as_author: APIClient) -> None:
    answer = as_author.post(f"{ORDERS}{ordered(as_author)['id']}/pay/", VISA)
    assert (answer.status_code, answer.json()["detail"]) == (409, "This site does not accept payments.")
    assert not TaskRun.objects.exists()
    assert as_author.post(f"{ORDERS}{uuid.uuid4()}/pay/", VISA).status_code == 404


def test_orders_in_the_admin_are_only_looked_at(client: Client, author: User) -> None:
    client.force_login(User.objects.create_superuser("root", "root@example.com", "a-long-passphrase-1"))
    order = order_create(owner=author, plan="monthly")
    assert str(order.pk).encode() in client.get("/admin/payments/order/").content
    url = f"/admin/payments/order/{order.pk}/"
    assert client.get(f"{url}change/").status_code == 200
    assert {client.post(f"{url}{what}/", {"status": "paid"}).status_code for what in ("change", "delete")} == {403}
    assert client.get("/admin/payments/order/add/").status_code == 403


@pytest.mark.parametrize(
    ("key", "secret", "base", "expected"),
    [
        ("", "", "https://api.stripe.com", []),
        ("sk_x", "whsec_x", "https://api.stripe.com", []),
        ("sk_x", "", "https://api.stripe.com", ["pressroom.E040"]),
        ("", "whsec_x", "https://api.stripe.com", ["pressroom.E040"]),
        ("sk_x", "whsec_x", "http://127.0.0.1:12111", ["pressroom.E041"]),
        ("sk_x", "whsec_x", "https://[x", ["pressroom.E041"]),
    ],
)
def test_settings_half_set(settings: Any, key: str, secret: str, base: str, expected: list[str]) -> None:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_API_BASE = key, secret, base
    settings.LOCAL = False
    found = list(checks.payments())
    assert ids(found) == expected
    assert not any("sk_x" in str(message) or "whsec_x" in str(message) for message in found)


def test_too_many_orders_are_429(as_author: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"payments": "2/min"})
    assert [as_author.post(ORDERS, {"plan": "monthly"}).status_code for _ in range(3)] == [201, 201, 429]
    assert as_author.get(ORDERS).status_code == 200
