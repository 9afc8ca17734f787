"""The hooks that ``gunicorn.conf.py`` uses: gunicorn's log in the common format, and the metrics endpoint."""

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
    """gunicorn's logger without handlers of its own, so that the LOGGING setting applies."""

    def setup(self, cfg: Any) -> None:
        """Configure logging. gunicorn calls this in the master at start, before any worker has set up Django."""
        super().setup(cfg)
        logging.config.dictConfig(settings.LOGGING)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


def when_ready(server: Any) -> None:
    """Serve the metrics of all processes from the master, on a separate port that no route of the site leads to."""
    if not settings.TASKRUNS_METRICS_PORT:
        return
    # Delete the files of an earlier start, because its process ids may be reused.
    for file in Path(os.environ[FOLDER]).glob("*.db"):
        file.unlink()
    metrics = MetricsServer(settings.TASKRUNS_METRICS_PORT, _route)
    threading.Thread(target=metrics.serve_forever, daemon=True).start()
    server.log.info("metrics on port %s", metrics.port)


def pre_fork(server: Any, worker: Any) -> None:
    """Share the memory of the loaded application. gunicorn calls this before it forks each process."""
    share()


def post_worker_init(worker: Any) -> None:
    """Make event streams end when their process is asked to stop. Otherwise it would wait for them."""
    from pressroom.http import event_stream  # needs Django, which is set up by now

    event_stream.stopping = lambda: not worker.alive


def pre_request(worker: Any, request: Any) -> None:
    """Let the application close the connection. gunicorn ignores its ``Connection`` header, as PEP 3333 requires."""
    if request.body is not None:
        request.body.force_close = request.force_close


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counters of a process that has exited, but remove its live gauges."""
    if settings.TASKRUNS_METRICS_PORT:
        mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Delete the metrics files."""
    if settings.TASKRUNS_METRICS_PORT:
        for file in Path(os.environ[FOLDER]).glob("*.db"):
            file.unlink(missing_ok=True)


def _route(path: str, accept: str) -> Answer | None:
    if path != "/metrics":
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return exposition(registry, accept)
