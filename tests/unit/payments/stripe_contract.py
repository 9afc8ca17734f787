"""Payments as Stripe's API documents them, on loopback: with the failures that stripe-mock does not know.

https://docs.stripe.com/api/errors, /api/idempotent_requests, /payments/paymentintents/lifecycle, /testing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

from app.local.stripe import Payments, Reply, error
from tests.support.web import Asked, Exchange, Web, web

Fault = Callable[["Stripe", Exchange, Callable[[], Reply]], None]


class Stripe(Payments):
    """The stand-in of `make up`, with faults, each used up by a call of that step ("create", "confirm")."""

    def __init__(self) -> None:
        super().__init__("sk_test_loopback")
        self.keys: list[tuple[str, str]] = []
        self.faults: dict[str, list[Fault]] = {"create": [], "confirm": []}
        self.web: Web

    def keys_of(self, step: str) -> list[str]:
        return [key for asked, key in self.keys if asked == step]

    def serve(self, exchange: Exchange, asked: Asked) -> None:
        def execute() -> Reply:
            return self.answer(asked.method, asked.path, asked.headers, asked.body)

        key = asked.headers.get("idempotency-key")
        if key is None or not self.knows(asked.headers):
            self.reply(exchange, execute())
            return
        step = "confirm" if asked.path.endswith("/confirm") else "create"
        self.keys.append((step, key))
        if key not in self.remembered and self.faults[step]:
            self.faults[step].pop(0)(self, exchange, execute)
            return
        replayed = {"Idempotent_Replayed": "true"} if key in self.remembered else {}
        self.reply(exchange, execute(), **replayed)

    def reply(self, exchange: Exchange, reply: Reply, **headers: str) -> None:
        status, body = reply
        exchange.reply(status, json.dumps(body).encode(), Content_Type="application/json", **headers)


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
    with web(stripe.serve) as server:
        stripe.web = server
        yield stripe
