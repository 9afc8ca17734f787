"""The SDK of OpenTelemetry for this process: what is sampled, exported and instrumented."""

from __future__ import annotations

import os
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from celery.signals import worker_process_shutdown
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from pressroom.tracing.spans import Tracing

INSTRUMENTED = {
    "opentelemetry.instrumentation.django": "DjangoInstrumentor",
    "opentelemetry.instrumentation.psycopg": "PsycopgInstrumentor",
    "opentelemetry.instrumentation.redis": "RedisInstrumentor",
    "opentelemetry.instrumentation.httpx": "HTTPXClientInstrumentor",
}
"""The SDK's own instrumentations, each of which is used if it is installed."""
LONGEST_EXPORT = 3
"""Seconds that one export may take, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise."""
DEFAULTS = {
    # Probes come every few seconds.
    "OTEL_PYTHON_DJANGO_EXCLUDED_URLS": "livez,readyz,metrics",
    "OTEL_EXPORTER_OTLP_TIMEOUT": str(LONGEST_EXPORT),
    "OTEL_SERVICE_NAME": "pressroom",
}
next_span_id: ContextVar[int | None] = ContextVar("taskruns_next_span_id", default=None)
"""The id of the next span that this context starts. An attempt's follows from its run and number."""


class _Ids(RandomIdGenerator):
    def generate_span_id(self) -> int:
        given = next_span_id.get()
        if given is None:
            return super().generate_span_id()
        next_span_id.set(None)
        return given


class _WithinTraces(Sampler):
    """Leaves out the calls of loops: a statement or a Redis command that belongs to no request and no run."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None, *arguments: Any, **options: Any
    ) -> SamplingResult:
        if kind == trace.SpanKind.CLIENT and not trace.get_current_span(parent_context).get_span_context().is_valid:
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, *arguments, **options)

    def get_description(self) -> str:
        return f"WithinTraces({self._sampler.get_description()})"


def make() -> Tracing:
    """Set the SDK up, by the environment that it reads itself, and instrument libraries."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    provider = TracerProvider(resource=Resource.create(), id_generator=_Ids())
    provider.sampler = _WithinTraces(provider.sampler)
    # Its thread starts anew in a child, which forgets the spans that its parent has yet to send.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    for module, name in INSTRUMENTED.items():
        try:
            instrumentor = getattr(import_module(module), name)
        except ImportError:
            continue
        instrumentor().instrument(tracer_provider=provider)

    def flush(**_: Any) -> None:
        """Send what is left: a child of a pool ends without Python's exit handlers."""
        provider.force_flush(LONGEST_EXPORT * 1000)

    worker_process_shutdown.connect(flush, weak=False, dispatch_uid="pressroom.tracing")
    return Tracing(provider.get_tracer("pressroom"), next_span_id)
