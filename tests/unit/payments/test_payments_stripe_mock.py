"""Our calls are calls that Stripe's API description allows: its own test server checks each parameter.

It knows no state: what becomes of a payment, ``test_payments.py`` has.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from app.accounts.models import User
from app.local.servers import free_port
from app.payments.models import Order
from app.payments.services import client, order_begin_payment, order_charge, order_create
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
VERSION = re.findall(r"^STRIPE_MOCK_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
BINARY = ROOT / ".tools" / f"stripe-mock-{VERSION}" / "stripe-mock"

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        shutil.which("go") is None and not BINARY.exists(), reason="stripe-mock is built with Go, and there is no Go"
    ),
]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log, port = tmp_path_factory.mktemp("stripe-mock") / "log", free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [BINARY, "-http-addr", f"127.0.0.1:{port}", "-https-addr", "127.0.0.1:0"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: listens(port) or process.poll() is not None, "stripe-mock listens")
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def stripe_settings(mock: str, settings: Any) -> None:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = "sk_test_123", mock


def test_every_call_is_one_that_stripe_knows(author: User) -> None:
    order = order_create(owner=author, plan="monthly")
    order_begin_payment(order_id=order.pk, payment_method="pm_card_visa")
    order_charge(order_id=order.pk)
    order.refresh_from_db()
    assert order.payment_intent.startswith("pi_")
    assert client().v1.payment_intents.retrieve(order.payment_intent).id == order.payment_intent


def test_a_call_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client().v1.payment_intents.create({"amount": "much", "currency": "krw", "colour": "red"})  # type: ignore[typeddict-item]
    assert not Order.objects.exists()
