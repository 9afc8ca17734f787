"""``TASKRUNS_ALIVE_FILE``: the file that shows a supervisor whether a process without a port is alive and ready.

The age of the file shows whether the process still runs, its text whether it has begun its work. A thread of its own
writes the file, so an outage of Postgres or Redis does not make a process look dead.
"""

from __future__ import annotations

import logging
import os
import time  # noqa: F401 - `native` looks it up
from pathlib import Path

from django.conf import settings

from pressroom.process.os_threads import native, start_native_thread

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two writes."""


def start() -> None:
    """Keep the file fresh from now on, as long as this process lives. Does nothing without ``TASKRUNS_ALIVE_FILE``."""
    if not settings.TASKRUNS_ALIVE_FILE:
        return
    path, pid = Path(settings.TASKRUNS_ALIVE_FILE), os.getpid()
    path.write_text("starting\n")

    def keep() -> None:
        while os.getpid() == pid:
            native("time", "sleep")(EVERY)
            try:
                path.touch()
            except OSError:
                logger.exception("%s cannot be written", path)

    start_native_thread(keep)


def ready() -> None:
    """Write that the process has begun its work."""
    if settings.TASKRUNS_ALIVE_FILE:
        Path(settings.TASKRUNS_ALIVE_FILE).write_text("ready\n")
