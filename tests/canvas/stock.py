"""Stock Celery on Redis, for comparison: ``celery -A tests.canvas.stock worker``."""

import os

from celery import Celery
from django.conf import settings

# It is there to be compared with the ledger.
settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "pressroom.E097"]
app = Celery("stock", broker=f"{os.environ['REDIS_URL']}/5", backend=f"{os.environ['REDIS_URL']}/6")
app.conf.update(
    task_track_started=True,
    result_extended=True,
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
)
app.set_default()

from tests.canvas.tasks import ByClass  # noqa: E402 - its shared tasks are this application's

app.register_task(ByClass())
