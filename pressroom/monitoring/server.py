"""The small HTTP server behind ``/metrics``: of a worker, the relay, gunicorn's master and the exporter."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# When each counter began is a second series for every one of them, and nobody's question.
disable_created_metrics()

CLIENT_TIMEOUT = 5.0
"""Seconds that a client may take to say what it wants."""

Answer = tuple[int, str, bytes]
"""Status, content type and body."""
Route = Callable[[str, str], Answer | None]
"""Answers a path for an ``Accept`` header; None where nothing is there."""


def exposition(registry: CollectorRegistry, accept: str) -> Answer:
    """What the registry holds, in the format that the scraper asks for."""
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


def metrics_of(registry: CollectorRegistry) -> Route:
    """A process that has nothing to tell but its registry."""
    return lambda path, accept: exposition(registry, accept) if path == "/metrics" else None


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = CLIENT_TIMEOUT

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        try:
            answer = self.server.route(path, self.headers.get("Accept", ""))
        except Exception:
            with suppress(ConnectionError):
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        status, content_type, body = answer or (HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: it is asked every few seconds."""


class MetricsServer(ThreadingHTTPServer):
    """Serves ``route`` on all addresses, or on ``host`` alone. Raises OSError where the port is taken."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, route: Route, host: str = "") -> None:
        self.route = route
        if host and ":" not in host:
            self.address_family = socket.AF_INET
        super().__init__((host, port), _Handler)
        # A child that outlives its parent must not keep the port.
        os.register_at_fork(after_in_child=self.socket.close)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As the base class's, which prints the traceback, but for who has gone before the answer came."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's, which asks the DNS for our name.
        TCPServer.server_bind(self)
