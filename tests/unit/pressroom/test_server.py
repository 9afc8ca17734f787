"""The HTTP server behind ``/metrics``."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from pressroom.monitoring.server import Answer, MetricsServer
from tests.support.waiting import until


class Served:
    """A server whose answer to `/wait` comes when it may, and whose answer to `/wrong` is an error."""

    def __init__(self) -> None:
        self.asked, self.may, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.server = MetricsServer(0, self.route)
        # The last that a connection's thread does.
        shut = self.server.shutdown_request
        self.server.shutdown_request = lambda request: (shut(request), self.ended.set())  # type: ignore[method-assign]

    def route(self, path: str, accept: str) -> Answer:
        if path == "/wrong":
            raise ValueError("a wrong route")
        self.asked.set()
        assert self.may.wait(60)
        return 200, "text/plain", b"x" * 1_000_000

    def get(self, path: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.server.port))
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return client


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_who_has_gone_is_no_error(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    client = served.get("/wait")
    assert served.asked.wait(60)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # with a reset
    served.may.set()
    until(served.ended.is_set, "the answer is given up")
    assert capfd.readouterr().err == ""


def test_what_is_wrong_is_told(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    with served.get("/wrong") as client:
        assert client.recv(100).startswith(b"HTTP/1.0 500")
    until(served.ended.is_set, "the answer is given")
    assert "a wrong route" in capfd.readouterr().err
