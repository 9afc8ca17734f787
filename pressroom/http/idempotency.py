"""``Idempotency-Key`` on a POST that starts work: the work and its response are one transaction and happen once.

A repeat within 24 hours gets the first response again. A repeat with another body gets 422, and one that arrives while
the first request is in progress gets 409. Keys belong to a user, or to an address if nobody is signed in. A request
without a key is handled as usual.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.db import connection, transaction
from django.http import HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from pressroom.models import IdempotencyKey

LIFETIME = timedelta(hours=24)
LONGEST_KEY = 255
BATCH = 1_000
"""Keys deleted at a time."""
SALT = "pressroom.http.idempotency"
"""Salt of the digest of a request. It is fixed, so that moving this module keeps stored keys valid."""


class InProgress(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "A request with this Idempotency-Key is in progress: try again."


class OtherRequest(exceptions.APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_detail = "This Idempotency-Key was already used for a different request."


def idempotent(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method of a DRF view that takes ``request``. It does not store responses of 400 or more."""

    @wraps(handler)
    def handle(view: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return handler(view, request, *args, **kwargs)
        if not 0 < len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
            raise exceptions.ValidationError({"Idempotency-Key": f"Use 1 to {LONGEST_KEY} printable ASCII characters."})
        content = json.dumps([request.method, request.path, request.data], sort_keys=True, default=str)
        # An HMAC, because anyone who reads a bare digest of a registration could guess its password offline.
        digest = salted_hmac(SALT, content, algorithm="sha256").hexdigest()
        mine = {"key": key, **_caller(request)}
        with transaction.atomic():
            _lock(mine)
            known = IdempotencyKey.objects.filter(**mine).first()
            if known is not None and known.created_at < timezone.now() - LIFETIME:
                known.delete()
                known = None
            if known is not None:
                if known.request != digest:
                    raise OtherRequest
                return _replay(known)
            response: Response = handler(view, request, *args, **kwargs)
            _store(view, request, mine, digest, response)
            return response

    handle.takes_idempotency_key = True  # type: ignore[attr-defined]  # for the OpenAPI description
    return handle


def _caller(request: Request) -> dict[str, Any]:
    """Return the owner of the key: the user, or the address as the throttles determine it (NUM_PROXIES)."""
    if request.user.is_authenticated:
        return {"user_id": request.user.pk, "address": ""}
    return {"user_id": None, "address": BaseThrottle().get_ident(request) or ""}


def _lock(mine: dict[str, Any]) -> None:
    """Lock the key until the transaction ends. Raises InProgress if another request holds the lock."""
    digest = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], "big", signed=True)])
        row = cursor.fetchone()
    if row is None or not row[0]:
        raise InProgress


def _store(view: Any, request: Request, mine: dict[str, Any], digest: str, response: Response) -> None:
    # Rendered here, because only the renderer can encode dates and the like.
    body = request.accepted_renderer.render(response.data, request.accepted_media_type, view.get_renderer_context())
    # The renderer sets the content type later.
    headers = {name: value for name, value in response.headers.items() if name != "Content-Type"}
    IdempotencyKey.objects.create(
        **mine, request=digest, status=response.status_code,
        headers=headers, body=body if isinstance(body, str) else body.decode(),
    )  # fmt: skip


def _replay(known: IdempotencyKey) -> HttpResponse:
    response = HttpResponse(known.body, status=known.status, content_type="application/json")
    for name, value in known.headers.items():
        response[name] = value
    response["Idempotency-Replayed"] = "true"
    return response


def keys_cleanup() -> int:
    """Delete keys older than 24 hours, in batches. Returns how many were deleted."""
    old = IdempotencyKey.objects.filter(created_at__lt=timezone.now() - LIFETIME)
    deleted = 0
    while batch := list(old.values_list("pk", flat=True)[:BATCH]):
        deleted += IdempotencyKey.objects.filter(pk__in=batch).delete()[0]
    return deleted
