"""``manage.py deletion_cost``."""

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pressroom.checks import TAG
from pressroom.database import readiness
from pressroom.monitoring.deletion_cost import DeletionCosts
from pressroom.process import alive_file

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Tells Kubernetes which worker pods are busy, so that a scale-in removes idle ones first. One is enough."
    # Only Pressroom's own checks: Django's load all routes, and the migration has already run them.
    requires_system_checks = [TAG]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--api", default="https://kubernetes.default.svc", help="Kubernetes' API (default: %(default)s)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        try:
            costs = DeletionCosts(options["api"])
        except FileNotFoundError as error:
            raise CommandError(f"no service account of Kubernetes: {error.filename} is missing") from error
        alive_file.start()
        if readiness.wait(stopping.wait):
            alive_file.ready()
            logger.info("deletion_cost: ready")
            costs.run(stopping)
        logger.info("deletion_cost: stopped")
