"""The API's documents load nothing from anybody else and run no inline script: a policy tells the browser so."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse

# ReDoc makes its styles while it runs: two, known by their hashes, before it learns the nonce. The policy also
# refuses the logo that it asks a CDN for.
REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
POLICY = (
    f"default-src 'self'; img-src 'self' data:; style-src 'self' 'nonce-{{nonce}}' {REDOC_STYLES}; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def from_here_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The view, its page kept from loading anything of another site. Its template finds ``request.csp_nonce``."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        request.csp_nonce = nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]  # ours
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = POLICY.format(nonce=nonce)
        return response

    return answer
