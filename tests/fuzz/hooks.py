"""For Schemathesis (``SCHEMATHESIS_HOOKS=tests.fuzz.hooks``): a check of its own."""

from __future__ import annotations

import schemathesis
from schemathesis import Case, CheckContext, Response

EVERYWHERE = {
    # Of HTTP itself, of the server and of proxies.
    "allow", "cache-control", "connection", "content-length", "content-type", "date", "server", "transfer-encoding",
    "vary", "x-accel-buffering",
    # An unknown session's cookie is taken back.
    "set-cookie",
    # Of Django's security middleware.
    "content-security-policy", "cross-origin-opener-policy", "permissions-policy", "referrer-policy",
    "strict-transport-security", "x-content-type-options", "x-frame-options",
    # The id of the request, in the logs.
    "x-request-id", "x-correlation-id",
}  # fmt: skip


@schemathesis.check
def documented_headers(context: CheckContext, response: Response, case: Case) -> None:
    """Every header of an answer stands in the description of its status."""
    answers = case.operation.definition.raw["responses"]
    described = answers.get(str(response.status_code), {}).get("headers", {})
    unknown = {name.lower() for name in response.headers} - EVERYWHERE - {name.lower() for name in described}
    assert not unknown, f"{response.status_code} has headers that are not described: {', '.join(sorted(unknown))}"
