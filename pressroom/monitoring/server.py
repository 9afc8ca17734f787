"""The small HTTP server behind ``/metrics`` in workers, the relay, gunicorn's master and the exporter."""

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

# The creation time of each counter would be a second series for every counter, and nobody uses it.
disable_created_metrics()

CLIENT_TIMEOUT = 5.0
"""Seconds that a client may take to send its request."""

Answer = tuple[int, str, bytes]
"""Status, content type and body."""
Route = Callable[[str, str], Answer | None]
"""Answers a path for an ``Accept`` header. Returns None for an unknown path."""


def exposition(registry: CollectorRegistry, accept: str) -> Answer:
    """Return the registry's metrics in the format that the scraper asks for."""
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


def metrics_of(registry: CollectorRegistry) -> Route:
    """Return a route that serves the registry at ``/metrics`` and nothing else."""
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
        """Log nothing, because a request comes every few seconds."""


class MetricsServer(ThreadingHTTPServer):
    """Serves ``route`` on all addresses, or on ``host`` only. Raises OSError if the port is taken."""

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
        """Print the traceback, unless the client closed the connection before the response."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Skip HTTPServer.server_bind, which asks the DNS for the host's name.
        TCPServer.server_bind(self)
