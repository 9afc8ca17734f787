"""``/livez`` and ``/readyz``, the probes of a web process. They accept any host name and run before everything else."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.log import log_response

from pressroom.database import readiness

Answer = Callable[[HttpRequest], HttpResponse]
logger = logging.getLogger(__name__)


class HealthMiddleware:
    """Answers the probes. It comes first, so that neither ALLOWED_HOSTS nor the request log sees them.

    A process that answers is alive. It is ready once it has seen the schema that its code needs. A dependency may go
    away later: then the application itself answers 503, which is better than a Service without endpoints.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response
        self._ready = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return HttpResponse("alive\n", content_type="text/plain")
        if request.path == "/readyz":
            return self._readiness(request)
        return self.get_response(request)

    def _readiness(self, request: HttpRequest) -> HttpResponse:
        if not self._ready and (why := readiness.missing()) is not None:
            response = HttpResponse(f"{why}\n", content_type="text/plain", status=503)
            # Or Django logs an error for each probe, which its default handler mails to ADMINS.
            log_response("not ready: %s", why, response=response, request=request, logger=logger, level="info")
            return response
        self._ready = True
        version = getattr(settings, "SPECTACULAR_SETTINGS", {}).get("VERSION")
        text = f"ready, version {version}" if version else "ready"
        return HttpResponse(f"{text}\n", content_type="text/plain")
