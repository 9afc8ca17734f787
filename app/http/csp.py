"""The content security policy of the API documentation: no resources of other sites and no inline scripts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse

# ReDoc creates its styles at run time. It creates two of them before it learns the nonce; the policy allows these by
# hash. The policy also refuses the logo that ReDoc requests from a CDN.
REDOC_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
POLICY = (
    f"default-src 'self'; img-src 'self' data:; style-src 'self' 'nonce-{{nonce}}' {REDOC_STYLES}; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def from_here_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Wrap a view so that its page loads nothing from other sites. The template reads ``request.csp_nonce``."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        request.csp_nonce = nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]  # ours
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = POLICY.format(nonce=nonce)
        return response

    return answer
