"""Orders as a program makes and pays them."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from app.payments.models import Order

pytestmark = pytest.mark.django_db

ORDERS = "/api/orders/"
VISA = {"payment_method": "pm_card_visa"}


def test_a_new_order_says_where_it_is(as_author: APIClient) -> None:
    made = as_author.post(ORDERS, {"plan": "monthly"})
    assert made["Location"] == made.json()["url"]
    read = as_author.get(made["Location"])
    assert (read.json(), read["ETag"]) == (made.json(), made["ETag"])
    assert [order["id"] for order in as_author.get(f"{ORDERS}?status=pending").json()["results"]] == [made.json()["id"]]
    assert as_author.get(f"{ORDERS}?status=paid").json()["results"] == []


def test_it_is_paid_only_as_it_was_read(as_author: APIClient, settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_loopback"
    made = as_author.post(ORDERS, {"plan": "monthly"})
    Order.objects.update(amount=99_000)
    url = made["Location"]
    assert as_author.post(f"{url}pay/", VISA, HTTP_IF_MATCH=made["ETag"]).status_code == 412
    assert Order.objects.get().status == "pending"
    paid = as_author.post(f"{url}pay/", VISA, HTTP_IF_MATCH=as_author.get(url)["ETag"])
    assert paid.status_code == 202
    assert paid.json()["about"] == {"type": "order", "url": url}
