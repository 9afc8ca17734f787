"""``/livez`` and ``/readyz``: what a supervisor asks a web process, by whatever host name and before all else."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from pressroom.database import readiness

Answer = Callable[[HttpRequest], HttpResponse]


class HealthMiddleware:
    """The first of all, so that neither ALLOWED_HOSTS nor a log line for each probe comes before it.

    Alive is a process that answers. Ready is one that has once seen the schema as far as its code; what it depends on
    may be away later, and the application says so itself, with 503, better than a Service without endpoints would.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response
        self._ready = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return HttpResponse("alive\n", content_type="text/plain")
        if request.path == "/readyz":
            return self._readiness()
        return self.get_response(request)

    def _readiness(self) -> HttpResponse:
        if not self._ready and (why := readiness.missing()) is not None:
            return HttpResponse(f"{why}\n", content_type="text/plain", status=503)
        self._ready = True
        return HttpResponse("ready\n", content_type="text/plain")
