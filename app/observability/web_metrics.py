"""Metrics of the web processes. gunicorn's master sums and serves them: see ``app.observability.gunicorn``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from http import HTTPMethod

from django.contrib.admindocs.views import simplify_regex
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pressroom.signals import unique_call_repeated

REGISTRY = CollectorRegistry()
ROUTE = ("method", "route")
REQUESTS = Counter("pressroom_http_requests", "Requests answered.", [*ROUTE, "status"], registry=REGISTRY)
DURATION = Histogram("pressroom_http_request_duration_seconds", "Time to the answer.", ROUTE, registry=REGISTRY)
IN_FLIGHT = Gauge(
    "pressroom_http_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum", registry=REGISTRY
)
REPEATED = Counter(
    "pressroom_unique_calls_repeated",
    "Unique calls of web processes that found an earlier one and stored nothing.",
    ["name"],
    registry=REGISTRY,
)
# Turns a route into a template like /api/posts/<pk>/, even if the route is a regular expression.
template = cache(simplify_regex)
METHODS = frozenset(method.value for method in HTTPMethod)
OTHER = "other"


@receiver(unique_call_repeated)
def count_repeated_call(name: str, **_: object) -> None:
    """Count a unique call that was not stored. The names are those of tasks that the code calls."""
    REPEATED.labels(name).inc()


class MetricsMiddleware:
    """Counts requests by route template, so that ids and invented paths do not become labels. Comes outermost."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        with IN_FLIGHT.track_inprogress():
            response = self.get_response(request)
        match = request.resolver_match
        labels = (
            request.method if request.method in METHODS else OTHER,
            template(match.route) if match is not None else OTHER,
        )
        REQUESTS.labels(*labels, str(response.status_code)).inc()
        DURATION.labels(*labels).observe(time.perf_counter() - began)
        return response
