"""``manage.py exporter``."""

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom.checks import TAG
from pressroom.monitoring.exporter import Exporter
from pressroom.monitoring.server import MetricsServer

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Serves /metrics for Prometheus and /queues/<name> for KEDA. It only reads. One process is enough."
    # Only Pressroom's own checks: Django's load all routes, and the migration has already run them.
    requires_system_checks = [TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=9808, help="Port to listen on (default: %(default)s).")
        parser.add_argument("--host", default="", help="Address to listen on (default: all).")

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        try:
            server = MetricsServer(options["port"], Exporter().route, options["host"])
        except OSError as error:
            raise CommandError(f"port {options['port']}: {error.strerror}") from error
        threading.Thread(target=server.serve_forever, daemon=True).start()
        logger.info("exporter: ready on port %s", server.port)
        stopping.wait()
        server.shutdown()
        logger.info("exporter: stopped")
