"""A stand-in for Stripe's API in `make up`, for payments without money. It uses only the standard library.

It implements payment intents as Stripe documents them: creating, confirming and retrieving; idempotency keys; a card
that is declined (`pm_card_chargeDeclined`). https://docs.stripe.com/api/payment_intents, /api/idempotent_requests,
/testing.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

Reply = tuple[int, dict[str, Any]]

DECLINES = {
    "pm_card_chargeDeclined": ("card_declined", "Your card was declined."),
    "pm_card_authenticationRequired": ("authentication_required", "Your card requires authentication."),
}


def error(status: int, kind: str, message: str, **more: str) -> Reply:
    """Return an error in Stripe's format: https://docs.stripe.com/api/errors."""
    return status, {"error": {"type": kind, "message": message, **more}}


def _unknown(method: str) -> Reply:
    return error(400, "invalid_request_error", f"No such PaymentMethod: '{method}'", code="resource_missing",
                 param="payment_method")  # fmt: skip


class Payments:
    """The state of the API: payment intents, and the answers by idempotency key."""

    def __init__(self, key: str) -> None:
        self.intents: dict[str, dict[str, Any]] = {}
        self.charges: list[str] = []
        """The intents that moved money, once for each time they did."""
        self.remembered: dict[str, tuple[dict[str, str], Reply]] = {}
        self._authorization = f"Bearer {key}"
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Return the status and the JSON of the answer. ``headers`` has lower-case names."""
        if not self.knows(headers):
            return error(401, "invalid_request_error", "Invalid API Key provided")
        parts = path.strip("/").split("/")
        if parts[:2] != ["v1", "payment_intents"] or (len(parts) > 2 and parts[2] not in self.intents):
            return error(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).")
        if method == "GET":
            return 200, self.intents[parts[2]]
        parameters = dict(parse_qsl(body.decode()))
        return self.once(headers.get("idempotency-key") or secrets.token_hex(), parts, parameters)

    def knows(self, headers: dict[str, str]) -> bool:
        """Whether the request carries our key."""
        return headers.get("authorization") == self._authorization

    def once(self, key: str, parts: list[str], parameters: dict[str, str]) -> Reply:
        """Execute the request, or repeat the answer if the key has been used before."""
        with self._lock:
            if key not in self.remembered:
                done = self._confirm(parts[2], parameters) if parts[-1] == "confirm" else self._create(parameters)
                self.remembered[key] = parameters, done
            known, reply = self.remembered[key]
        return reply if known == parameters else error(400, "idempotency_error", "Keys can only be used once")

    def _create(self, parameters: dict[str, str]) -> Reply:
        method = parameters["payment_method"]
        if not method.startswith("pm_card_"):
            return _unknown(method)
        intent = {
            "id": f"pi_{secrets.token_hex(8)}", "object": "payment_intent", "amount": int(parameters["amount"]),
            "currency": parameters["currency"], "payment_method": method, "status": "requires_confirmation",
            "last_payment_error": None, "metadata": {"order": parameters["metadata[order]"]},
        }  # fmt: skip
        self.intents[str(intent["id"])] = intent
        return 200, dict(intent)

    def _confirm(self, name: str, parameters: dict[str, str]) -> Reply:
        intent = self.intents[name]
        method = parameters.get("payment_method", intent["payment_method"])
        if not method.startswith("pm_card_"):
            return _unknown(method)
        if intent["status"] != "requires_confirmation":
            return error(400, "invalid_request_error", "This PaymentIntent's status is another.",
                         code="payment_intent_unexpected_state")  # fmt: skip
        intent["payment_method"] = method
        declined = DECLINES.get(method)
        if declined is None:
            self.charges.append(name)
            intent["status"] = "succeeded"
            return 200, dict(intent)
        failure = error(402, "card_error", declined[1], code=declined[0])
        intent |= {"status": "requires_payment_method", "last_payment_error": failure[1]["error"]}
        return failure


class Handler(BaseHTTPRequestHandler):
    """Handles one connection."""

    protocol_version = "HTTP/1.1"
    payments: Payments

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.payments.answer(self.command, self.path, headers, body)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _any  # noqa: N815 - as http.server names them

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - http.server's name
        print(format % arguments, flush=True)


def main(port: int, key: str) -> None:
    """Serve on loopback until the process ends."""
    Handler.payments = Payments(key)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("stripe: ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
