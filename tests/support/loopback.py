"""Servers on loopback that stand for those of others: what they were asked is kept, what they answer is the test's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    json: Any


@dataclass(frozen=True)
class Reply:
    """An answer; ``status`` 0 is none: the connection stays open and silent until the server ends."""

    status: int
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)


HANG = Reply(0)


class HttpServer:
    """Answers each request by ``answer(asked)``, and keeps them in ``asked``."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.ending = threading.Event()
        ours = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, json.loads(body) if body else None)
                reply = ours.answer(asked)
                ours.asked.append(asked)
                if reply is HANG:
                    ours.ending.wait(60)
                    self.close_connection = True
                    return
                content = b"" if reply.json is None else json.dumps(reply.json).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815 - http.server's names

            def log_message(self, *args: Any) -> None:
                """Not to the tests' output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"


@contextmanager
def http_server(answer: Callable[[Asked], Reply]) -> Iterator[HttpServer]:
    """A server that runs within the block."""
    server = HttpServer(answer)
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.server.shutdown()
        server.server.server_close()
        thread.join()


class SmtpServer:
    """Takes mail. ``replies`` has what to say to a recipient's RCPT, by address; ``"drop"`` ends the connection."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.connections = 0
        self.replies: dict[str, str] = {}
        self.on_data: dict[str, str] = {}
        self.on_mail: list[str] = []
        """What to say to the next MAIL commands."""

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        reply = self.on_mail.pop(0) if self.on_mail else "250 OK"
        if reply.startswith("250"):
            envelope.mail_from = address
        return reply

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        reply = self.replies.get(address, "250 OK")
        if reply == "drop":
            server.transport.abort()
        elif reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        reply = self.on_data.get(envelope.rcpt_tos[0], "250 OK")
        if reply in ("250 OK", "drop"):
            self.mails.append(message_from_bytes(envelope.content))
        if reply == "drop":  # taken, but nobody is told
            server.transport.abort()
        return reply

    def recipients(self) -> list[str]:
        return [str(mail["To"]) for mail in self.mails]


@contextmanager
def smtp_server() -> Iterator[tuple[SmtpServer, int]]:
    """A mail server that runs within the block, and its port."""
    handler = SmtpServer()
    loop = asyncio.new_event_loop()
    # Not aiosmtpd's Controller, which wants to know its port beforehand.
    serving = loop.run_until_complete(
        loop.create_server(lambda: SMTP(handler, enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield handler, serving.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        serving.close()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
