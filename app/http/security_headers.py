"""Security headers on every response: pages, documents, files and errors. Also redirects from http to https."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware.security import SecurityMiddleware

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    # Some pages and the admin's widgets have inline styles.
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Permissions-Policy": "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
    "magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeadersMiddleware:
    """Sets the headers. It comes outermost, so that no response misses them. A header that a view has set stays."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        # In debug mode Django's own error pages have inline scripts.
        scripts = {"script-src": "'self' 'unsafe-inline'"} if settings.DEBUG else {}
        self._policy = "; ".join(f"{name} {sources}" for name, sources in {**POLICY, **scripts}.items())
        self._django = SecurityMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._to_https(request) or self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self._policy)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        # Django's middleware sets HSTS and others. Run it here too, for responses that never reach it.
        self._django.process_response(request, response)
        return response

    def _to_https(self, request: HttpRequest) -> HttpResponse | None:
        """Redirect only if the proxy says that the request came by http. Requests within the cluster have no header."""
        if not (settings.HTTPS and settings.TRUST_PROXY and request.META.get("HTTP_X_FORWARDED_PROTO") == "http"):
            return None
        keeps_body = request.method not in ("GET", "HEAD")
        return HttpResponsePermanentRedirect(settings.SITE_URL + request.get_full_path(), preserve_request=keeps_body)
