"""Payments as Stripe's API documents them, on loopback: with the failures that stripe-mock does not know.

https://docs.stripe.com/api/errors, /api/idempotent_requests, /payments/paymentintents/lifecycle, /testing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

from tests.web import Asked, Exchange, Web, web

Reply = tuple[int, dict[str, Any]]
Fault = Callable[["Stripe", Exchange, Callable[[], Reply]], None]


class Stripe:
    """Its state, and what it was asked. ``faults`` are used up, one a call of that step ("create", "confirm")."""

    def __init__(self) -> None:
        self.intents: dict[str, dict[str, Any]] = {}
        self.charges: list[str] = []
        self.keys: list[tuple[str, str]] = []
        self.remembered: dict[str, tuple[dict[str, str], Reply]] = {}
        self.faults: dict[str, list[Fault]] = {"create": [], "confirm": []}
        self._lock = threading.Lock()
        self.web: Web

    def keys_of(self, step: str) -> list[str]:
        return [key for asked, key in self.keys if asked == step]

    def answer(self, exchange: Exchange, asked: Asked) -> None:
        parts = asked.path.strip("/").split("/")
        parameters = dict(parse_qsl(asked.body.decode()))
        if asked.headers.get("authorization") != "Bearer sk_test_loopback":
            self.reply(exchange, error(401, "invalid_request_error", "Invalid API Key provided"))
            return
        if asked.method == "GET":
            self.reply(exchange, (200, self.intents[parts[2]]))
            return
        step = "confirm" if parts[-1] == "confirm" else "create"
        key = asked.headers["idempotency-key"]
        self.keys.append((step, key))

        def execute() -> Reply:
            with self._lock:
                if key not in self.remembered:
                    done = self.confirm(parts[2], parameters) if step == "confirm" else self.create(parameters)
                    self.remembered[key] = parameters, done
                known, reply = self.remembered[key]
                return reply if known == parameters else error(400, "idempotency_error", "Keys can only be used once")

        if key not in self.remembered and self.faults[step]:
            self.faults[step].pop(0)(self, exchange, execute)
            return
        replayed = {"Idempotent_Replayed": "true"} if key in self.remembered else {}
        self.reply(exchange, execute(), **replayed)

    def reply(self, exchange: Exchange, reply: Reply, **headers: str) -> None:
        status, body = reply
        exchange.reply(status, json.dumps(body).encode(), Content_Type="application/json", **headers)

    def create(self, parameters: dict[str, str]) -> Reply:
        method = parameters["payment_method"]
        if not method.startswith("pm_card_"):
            return error(400, "invalid_request_error", f"No such PaymentMethod: '{method}'", code="resource_missing",
                         param="payment_method")  # fmt: skip
        intent = {
            "id": f"pi_{len(self.intents)}", "object": "payment_intent", "amount": int(parameters["amount"]),
            "currency": parameters["currency"], "payment_method": method, "status": "requires_confirmation",
            "last_payment_error": None, "metadata": {"order": parameters["metadata[order]"]},
        }  # fmt: skip
        self.intents[str(intent["id"])] = intent
        return 200, dict(intent)

    def confirm(self, name: str, parameters: dict[str, str]) -> Reply:
        intent = self.intents[name]
        if intent["status"] != "requires_confirmation":
            return error(400, "invalid_request_error", "This PaymentIntent's status is another.",
                         code="payment_intent_unexpected_state")  # fmt: skip
        declined = {
            "pm_card_chargeDeclined": ("card_declined", "Your card was declined."),
            "pm_card_authenticationRequired": ("authentication_required", "Your card requires authentication."),
        }.get(intent["payment_method"])
        if declined is None:
            self.charges.append(name)
            intent["status"] = "succeeded"
            return 200, dict(intent)
        failure = error(402, "card_error", declined[1], code=declined[0])
        intent |= {"status": "requires_payment_method", "last_payment_error": failure[1]["error"]}
        return failure


def error(status: int, kind: str, message: str, **more: str) -> Reply:
    return status, {"error": {"type": kind, "message": message, **more}}


def stored_500(stripe: Stripe, exchange: Exchange, execute: Callable[[], Reply]) -> None:
    """An error of Stripe's own, which does nothing and is kept under the key."""
    reply = error(500, "api_error", "An unknown error occurred")
    key = stripe.keys[-1][1]
    stripe.remembered[key] = dict(parse_qsl(stripe.web.asked[-1].body.decode())), reply
    stripe.reply(exchange, reply)


def rate_limit(stripe: Stripe, exchange: Exchange, execute: Callable[[], Reply]) -> None:
    stripe.reply(exchange, error(429, "invalid_request_error", "Too many requests", code="rate_limit"))


def unreachable(stripe: Stripe, exchange: Exchange, execute: Callable[[], Reply]) -> None:
    exchange.reset()


def lost_answer(stripe: Stripe, exchange: Exchange, execute: Callable[[], Reply]) -> None:
    """It is done, and the answer does not arrive."""
    execute()
    exchange.reset()


def late_answer(stripe: Stripe, exchange: Exchange, execute: Callable[[], Reply]) -> None:
    """It is done, and the answer does not arrive in any time."""
    execute()
    exchange.hang()


@contextmanager
def stripe_api() -> Iterator[Stripe]:
    stripe = Stripe()
    with web(stripe.answer) as server:
        stripe.web = server
        yield stripe
