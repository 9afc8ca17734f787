"""A file that tells a supervisor how a process without a port is doing: ``ALIVE_FILE``.

Its age says whether the process still runs, its text whether it has begun its work. A thread of its own writes it, so
neither Postgres nor Redis, when away, makes a process look dead.
"""

from __future__ import annotations

import logging
import os
import time  # noqa: F401 - for `native`
from pathlib import Path

from django.conf import settings

from pressroom.process.os_threads import native, start_native_thread

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two signs of life."""


def start() -> None:
    """Show signs of life from now on, while this process lives; nothing without ``ALIVE_FILE``."""
    if not settings.ALIVE_FILE:
        return
    path, pid = Path(settings.ALIVE_FILE), os.getpid()
    path.write_text("starting\n")

    def keep() -> None:
        while os.getpid() == pid:
            native("time", "sleep")(EVERY)
            try:
                path.touch()
            except OSError:
                logger.exception("no sign of life in %s", path)

    start_native_thread(keep)


def ready() -> None:
    """Say that the work has begun."""
    if settings.ALIVE_FILE:
        Path(settings.ALIVE_FILE).write_text("ready\n")
