"""Connections to the mail server that outlive a task, so that a worker's slot does not connect anew for each chunk.

A connection that was kept is closed after IDLE seconds without use, and replaced if the server has closed it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend

IDLE = 20.0
"""Seconds without use after which a connection is closed. Mail servers end idle ones after 30 s or later."""
MOST_MAILS = 500
"""Mails sent over one connection. Some servers accept no more than 1,000."""


class KeptConnection:
    """An open connection of Django's mail backend and its use so far."""

    def __init__(self) -> None:
        self.server = _server()
        self.mails = 0
        self.used_at = 0.0
        self._backend: BaseEmailBackend | None = None

    @property
    def backend(self) -> BaseEmailBackend:
        """The open connection. Raises the errors of the backend."""
        if self._backend is None:
            backend = get_connection()
            backend.open()
            self._backend = backend
        return self._backend

    def close(self) -> None:
        """Close the connection, so that the next use opens a new one. Never raises."""
        backend, self._backend, self.mails = self._backend, None, 0
        if backend is not None:
            with suppress(Exception):
                backend.close()

    def is_usable(self) -> bool:
        """Return whether the server still serves this connection. Costs one round trip by SMTP, else nothing."""
        if self.server != _server() or self.mails >= MOST_MAILS or time.monotonic() - self.used_at > IDLE:
            return False
        smtp = getattr(self._backend, "connection", None)
        if smtp is None or not hasattr(smtp, "noop"):
            return True
        with suppress(OSError):  # smtplib's errors are OSErrors
            return bool(smtp.noop()[0] == 250)
        return False


def _server() -> tuple[Any, ...]:
    return settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT, str(getattr(settings, "ANYMAIL", ""))


class _Free:
    """The connections of this process that nobody uses. As many as there are slots at most."""

    def __init__(self) -> None:
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Forget all connections. A child leaves those of its parent open: they are not its own."""
        self._lock = threading.Lock()
        self._connections: list[KeptConnection] = []
        self._is_watched = False

    def take(self) -> KeptConnection:
        while True:
            with self._lock:
                # The one that was used last, so that the others may become idle.
                connection = self._connections.pop() if self._connections else None
            if connection is None:
                return KeptConnection()
            if connection.is_usable():
                return connection
            connection.close()

    def give_back(self, connection: KeptConnection) -> None:
        connection.used_at = time.monotonic()
        with self._lock:
            self._connections.append(connection)
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="mail-idle", daemon=True).start()

    def _watch(self) -> None:
        """Close what is idle, until nothing is left."""
        while True:
            time.sleep(IDLE / 4)
            limit = time.monotonic() - IDLE
            with self._lock:
                idle = [connection for connection in self._connections if connection.used_at <= limit]
                self._connections = [connection for connection in self._connections if connection.used_at > limit]
                self._is_watched = bool(self._connections)
                is_over = not self._is_watched
            for connection in idle:
                connection.close()
            if is_over:
                return


_free = _Free()


@contextmanager
def kept_connection() -> Iterator[KeptConnection]:
    """Lend a connection for the block. After an error in the block it is closed, because its state is unknown."""
    connection = _free.take()
    try:
        yield connection
    except GeneratorExit:
        # The caller of a generator wants no more. The last mail was sent completely.
        _free.give_back(connection)
        raise
    except BaseException:
        connection.close()
        raise
    else:
        _free.give_back(connection)


def close_idle() -> None:
    """Close all connections of this process that nobody uses."""
    while True:
        with _free._lock:
            if not _free._connections:
                return
            connection = _free._connections.pop()
        connection.close()
