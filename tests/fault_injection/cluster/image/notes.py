"""`tests.support.notes` for tasks that run in pods: each line goes to the books, which are a server."""

from __future__ import annotations

import http.client
import os
import threading
import time
from urllib.parse import urlsplit

_here = threading.local()
TRIES = 5


def note(path: str, line: str) -> None:
    """Have the line written, ``path`` a URL. Raises OSError where that does not succeed."""
    if " ends " in line:  # nobody asks for it here
        return
    url = urlsplit(path)
    for left in reversed(range(TRIES)):
        try:
            connection = _connection(url.hostname or "", url.port or 80)
            connection.request("POST", url.path, line.encode())
            answer = connection.getresponse()
            answer.read()
            if answer.status == 204:
                return
            raise ConnectionError(f"the books answered {answer.status}")
        except (OSError, http.client.HTTPException):
            _here.connection = None
            if not left:
                raise
            time.sleep(0.2 * (TRIES - left))


def _connection(host: str, port: int) -> http.client.HTTPConnection:
    """Of this thread; a fork gets one of its own."""
    if getattr(_here, "connection", None) is None or _here.pid != os.getpid():
        _here.connection, _here.pid = http.client.HTTPConnection(host, port, timeout=10), os.getpid()
    connection: http.client.HTTPConnection = _here.connection
    return connection
