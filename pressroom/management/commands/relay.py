"""``manage.py relay``."""

import logging
import signal
import threading
from typing import Any

from celery import current_app as celery_app
from django.conf import settings
from django.core.management.base import BaseCommand

from pressroom.bulk.executor import Executor
from pressroom.checks import TAG
from pressroom.database import readiness
from pressroom.process import alive_file, user_code
from pressroom.relay.loop import Relay

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Publishes due runs from Postgres to Redis, recovers lost ones and carries out bulk actions. "
        "Any number of relays may run."
    )
    # Only Pressroom's own checks: Django's load all routes, and the migration has already run them.
    requires_system_checks = [TAG]

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        # The relay calls the errbacks and chords of new dead letters by task name, so it needs the tasks' modules.
        celery_app.loader.import_default_modules()
        user_code.no_exit()
        alive_file.start()
        relay = Relay(stopping)
        if settings.TASKRUNS_METRICS_PORT:
            threading.Thread(
                target=relay.metrics.serve(settings.TASKRUNS_METRICS_PORT).serve_forever, daemon=True
            ).start()
        if readiness.wait(stopping.wait):
            alive_file.ready()
            logger.info("relay: ready")
            # A daemon: a batch that Postgres keeps waiting does not hold up the end, and is rolled back.
            threading.Thread(target=Executor(stopping).run, name="bulk-actions", daemon=True).start()
            relay.run()
        logger.info("relay: stopped")
