"""Whose run it is: the user of the request, or of the task, that called it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponse

from pressroom import context

_request: ContextVar[HttpRequest | None] = ContextVar("taskruns_request", default=None)
_owner: ContextVar[tuple[int | None] | None] = ContextVar("taskruns_owner", default=None)
"""The owner of a block, which may be nobody; None outside of one."""


class OwnershipMiddleware:
    """Remembers the request, so that what it starts belongs to its user.

    The user is read when a task is called: by then the API has authenticated it.
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
    """Calls in the block belong to ``user`` (a saved user, or None for nobody)."""
    token = _owner.set((user.pk if user is not None else None,))
    try:
        yield
    finally:
        _owner.reset(token)


def current_owner_id() -> int | None:
    """The owner of a call made now: the block's, the running task's, the request's user, or nobody."""
    block = _owner.get()
    if block is not None:
        return block[0]
    running = context.current()
    if running is not None:
        return running.claim.owner_id
    request = _request.get()
    user = getattr(request, "user", None)
    return user.pk if user is not None and user.is_authenticated else None
