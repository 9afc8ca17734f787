"""A project on stock Celery, before it moves here: ``celery -A tests.support.probes.old worker``."""

import os
import time

from celery import Celery
from django.conf import settings

from tests.support.notes import note

# The check would refuse to start this worker beside the ledger.
settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "pressroom.E097"]
app = Celery("old", broker=f"{os.environ['REDIS_URL']}/0", set_as_current=False)
app.conf.update(
    task_default_queue="default",
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name="probe.effect")
def effect(path: str, line: str) -> None:
    note(path, line)


@app.task(name="probe.hold")
def hold(path: str, name: str, until_exists: str) -> None:
    note(path, f"{name} started {os.getpid()}")
    while not os.path.exists(until_exists):
        time.sleep(0.02)
    note(path, f"{name} ended")


@app.task(name="old.gone")
def gone() -> None:
    """Not there after the move."""
