"""The owner of a run: the user of the request that called it, or the owner of the run that called it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponse

from pressroom import context

_request: ContextVar[HttpRequest | None] = ContextVar("taskruns_request", default=None)
_owner: ContextVar[tuple[int | None] | None] = ContextVar("taskruns_owner", default=None)
"""The owner in an `owned_by` block as a tuple of one id, which may be None for nobody. None outside a block."""


class OwnershipMiddleware:
    """Remembers the request, so that the runs which it calls belong to its user.

    The user is read when a task is called. By then the API has authenticated the request.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _request.set(request)
        try:
            return self.get_response(request)
        finally:
            _request.reset(token)


@contextmanager
def owned_by(user: Any) -> Iterator[None]:
    """Have calls in the block belong to ``user`` (a saved user, or None for nobody)."""
    token = _owner.set((user.pk if user is not None else None,))
    try:
        yield
    finally:
        _owner.reset(token)


def current_owner_id() -> int | None:
    """Return the owner of a call made now: the block's, else the running run's, else the request's user, else None."""
    block = _owner.get()
    if block is not None:
        return block[0]
    running = context.current()
    if running is not None:
        return running.claim.owner_id
    request = _request.get()
    user = getattr(request, "user", None)
    return user.pk if user is not None and user.is_authenticated else None
