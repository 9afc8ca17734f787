"""A collector of OpenTelemetry's traces on loopback: it keeps the spans that processes send to it."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from tests.support.web import Asked, Exchange, Web, web


@dataclasses.dataclass(frozen=True)
class Span:
    """A span as it was received."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    links: list[str]
    attributes: dict[str, Any]
    error: bool
    events: list[str]
    start: int
    end: int
    """``start`` and ``end`` are Unix time in nanoseconds."""
    service: str


class Collector:
    """Spans, in the order of their arrival."""

    def __init__(self, server: Web) -> None:
        self._server = server

    def environment(self) -> dict[str, str]:
        """What a process needs to send its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self._server.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}

    def spans(self) -> list[Span]:
        return [span for asked in list(self._server.asked) for span in _spans_in(asked)]

    def named(self, name: str) -> list[Span]:
        return sorted((span for span in self.spans() if span.name == name), key=lambda span: span.start)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _spans_in(asked: Asked) -> Iterator[Span]:
    assert asked.path == "/v1/traces", asked.path
    assert asked.headers["content-type"] == "application/x-protobuf"
    body = gzip.decompress(asked.body) if asked.headers.get("content-encoding") == "gzip" else asked.body
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {one.key: _value(one.value) for one in of_resource.resource.attributes}
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    name=span.name,
                    kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=[link.span_id.hex() for link in span.links],
                    attributes={one.key: _value(one.value) for one in span.attributes},
                    error=span.status.code == span.status.STATUS_CODE_ERROR,
                    events=[event.name for event in span.events],
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    service=resource["service.name"],
                )


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector, gone at the end."""

    def accept(exchange: Exchange, asked: Asked) -> None:
        exchange.reply(200, b"", Content_Type="application/x-protobuf")

    with web(accept) as server:
        yield Collector(server)
