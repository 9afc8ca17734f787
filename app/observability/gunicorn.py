"""What gunicorn's settings (``gunicorn.conf.py``) name: its log lines in the format of all others, and its metrics."""

from __future__ import annotations

import logging.config
import os
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from gunicorn.glogging import Logger as GunicornLogger
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from pressroom.monitoring.server import Answer, MetricsServer, exposition
from pressroom.worker.memory import share

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Logger(GunicornLogger):  # type: ignore[misc]  # without types
    """gunicorn's, without handlers of its own: what it says goes where the settings say."""

    def setup(self, cfg: Any) -> None:
        """Called in the master at its start, before any worker has set Django up."""
        super().setup(cfg)
        logging.config.dictConfig(settings.LOGGING)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


def when_ready(server: Any) -> None:
    """The master serves what its processes count, on a port of its own: no route of the site leads there."""
    if not settings.METRICS_PORT:
        return
    # Of an earlier start, whose process ids may come again.
    for file in Path(os.environ[FOLDER]).glob("*.db"):
        file.unlink()
    metrics = MetricsServer(settings.METRICS_PORT, _route)
    threading.Thread(target=metrics.serve_forever, daemon=True).start()
    server.log.info("metrics on port %s", metrics.port)


def pre_fork(server: Any, worker: Any) -> None:
    """Once the application is loaded, before each process."""
    share()


def post_worker_init(worker: Any) -> None:
    """Streams of events end when their process is told to: it would wait for them."""
    from pressroom.http import event_stream  # needs Django, which the application has set up by now

    event_stream.stopping = lambda: not worker.alive


def pre_request(worker: Any, request: Any) -> None:
    """Let the application close the connection: its own header ``Connection`` is not heeded, as PEP 3333 has it."""
    if request.body is not None:
        request.body.force_close = request.force_close


def child_exit(server: Any, worker: Any) -> None:
    """What a process counted stays; what it was just doing does not."""
    if settings.METRICS_PORT:
        mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Nobody asks any more."""
    if settings.METRICS_PORT:
        for file in Path(os.environ[FOLDER]).glob("*.db"):
            file.unlink(missing_ok=True)


def _route(path: str, accept: str) -> Answer | None:
    if path != "/metrics":
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return exposition(registry, accept)
