"""HTTP servers on loopback in the place of others' services: they note what they are asked, and answer as told."""

from __future__ import annotations

import dataclasses
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    server: Web

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body)
        self.server.asked.append(asked)
        try:
            self.server.answer(self, asked)
        except OSError:  # the client has had enough
            self.close_connection = True

    do_GET = do_POST = do_PATCH = _any  # noqa: N815 - as http.server names them

    def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """A whole answer; ``Retry_After="3"`` becomes the header ``Retry-After: 3``."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Break the connection off, as a crashed server's machine does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def hang(self) -> None:
        """Answer nothing until the client leaves or the test ends."""
        self.connection.settimeout(0.1)
        while not self.server.closing.is_set():
            try:
                if not self.connection.recv(1):
                    break
            except TimeoutError:
                continue
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Web(ThreadingHTTPServer):
    """Answers each request by ``answer(exchange, asked)``, which may be replaced while it runs."""

    daemon_threads = True
    # Its threads end with it: a test leaves nothing behind.
    block_on_close = True

    def __init__(self, answer: Callable[[Exchange, Asked], None], host: str, port: int) -> None:
        super().__init__((host, port), Exchange)
        self.answer = answer
        self.asked: list[Asked] = []
        self.closing = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.port}"

    def handle_error(self, *_: object) -> None:
        """Nothing: the client's side is what is tested."""


@contextmanager
def web(answer: Callable[[Exchange, Asked], None], host: str = "127.0.0.1", port: int = 0) -> Iterator[Web]:
    """A server, gone at the end."""
    server = Web(answer, host, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
