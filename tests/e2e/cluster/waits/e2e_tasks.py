"""A task that waits for the answer of a slow server, and notes its start and its end where the ledger does not look."""

from __future__ import annotations

import functools
import os
import socketserver
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from celery import shared_task
from django.db import connection

NOTES = "e2e_notes (run uuid, what text, pod text, at timestamptz DEFAULT clock_timestamp())"


class _Slow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(float(self.path.strip("/")))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: an answer a task is enough."""


@functools.cache
def _slow_server(pid: int) -> int:
    """The port of a server in this process, which a fork does not inherit."""
    server: socketserver.TCPServer = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def _note(run: str, what: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO e2e_notes (run, what, pod) VALUES (%s, %s, %s)", [run, what, os.environ.get("HOSTNAME", "")]
        )


@shared_task(bind=True, name="e2e.wait")
def wait(self: Any, seconds: float) -> None:
    """Wait for a server on the loopback interface that takes so long to answer."""
    _note(self.request.id, "begun")
    with urllib.request.urlopen(f"http://127.0.0.1:{_slow_server(os.getpid())}/{seconds}", timeout=seconds + 60):
        _note(self.request.id, "ended")
