"""Mail servers on loopback, each in a process of its own, that accept every mail and count it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import psutil
from aiosmtpd.smtp import SMTP


@dataclass
class Counted:
    """What a server was sent: mails to subscribers, with addresses like ``s123@example.com``, and others."""

    mails: int = 0
    calls: int = 0
    different: int = 0
    twice: int = 0
    others: dict[str, float] = field(default_factory=dict)
    """When each other address got its first mail, as Unix time."""


class Counter:
    """Counts mails by their addresses."""

    def __init__(self, recipients: int) -> None:
        self._seen = bytearray(recipients + 1)
        self._counted = Counted()
        self._lock = threading.Lock()

    def add(self, addresses: list[str]) -> None:
        with self._lock:
            self._add(addresses)

    def _add(self, addresses: list[str]) -> None:
        subscribers = [address for address in addresses if address[0] == "s"]
        for address in addresses:
            if address[0] != "s":
                self._counted.others.setdefault(address, time.time())
        self._counted.calls += bool(subscribers)
        for address in subscribers:
            number = int(address[1:].partition("@")[0])
            self._counted.twice += self._seen[number]
            self._seen[number] = 1
        self._counted.mails += len(subscribers)

    def counted(self) -> Counted:
        self._counted.different = sum(self._seen)
        return self._counted


def serve_like_sendgrid(recipients: int, pipe: Connection) -> None:
    """Answer POST /v3/mail/send with 202. Sends its port through the pipe and, when asked, what it has counted."""
    counter = Counter(recipients)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without this, a second small write of an answer waits 40 ms for the client's acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            letter = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            counter.add([own["to"][0]["email"] for own in letter["personalizations"]])
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.timeout = 0.1
    pipe.send(server.server_port)
    while not pipe.poll():
        server.handle_request()
    pipe.send(counter.counted())


def serve_smtp(recipients: int, pipe: Connection, seconds: float) -> None:
    """Accept every mail after ``seconds``. Sends its port through the pipe and, when asked, what it has counted."""
    counter = Counter(recipients)

    class Handler:
        async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            await asyncio.sleep(seconds)
            counter.add(envelope.rcpt_tos)
            return "250 OK"

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.recv)

    asyncio.run(serve())
    pipe.send(counter.counted())


@dataclass
class MailServer:
    """A server that runs."""

    port: int
    process: psutil.Process
    end: Callable[[], Counted]
    """Ends the server and returns what it has counted."""


@contextmanager
def mail_server(serve: Callable[..., None], recipients: int, *arguments: Any) -> Iterator[MailServer]:
    """Run a mail server in its own process within the block."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(recipients, theirs, *arguments), daemon=True
    )
    process.start()

    def end() -> Counted:
        ours.send("enough")
        counted: Counted = ours.recv()
        return counted

    try:
        yield MailServer(ours.recv(), psutil.Process(process.pid), end)
    finally:
        process.kill()
        process.join()
