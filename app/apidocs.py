"""The API's documents load nothing from anybody else: a policy tells the browser so."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpResponse

# ReDoc asks a CDN for a logo and a font; both are done without.
POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; worker-src 'self' blob:"
)


def from_here_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The view, its page kept from loading anything of another site."""

    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> HttpResponse:
        response = view(*args, **kwargs)
        response["Content-Security-Policy"] = POLICY
        return response

    return answer
