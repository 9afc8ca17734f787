"""Plain Celery in a Django project. ``delay_on_commit()`` is its way to call a task in a transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from celery import Celery
from django.conf import settings as of_django

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls

ACKS_LATE: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    # Seconds after which a killed worker's messages are redelivered: about as soon as ours, not after an hour.
    "broker_transport_options": {"visibility_timeout": 30},
}


def stock(module: str, title: str, **settings: Any) -> tuple[Celery, Peer]:
    """Return the application of ``module``, for ``celery -A``, and its peer. Results are neither requested nor kept."""
    # It is there to be compared with the ledger.
    of_django.SILENCED_SYSTEM_CHECKS = [*of_django.SILENCED_SYSTEM_CHECKS, "pressroom.E097"]
    # bench.site loads it beside the site's own application, which stays the current one.
    app = Celery("stock", broker=f"{os.environ['REDIS_URL']}/0", set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, **settings)

    @app.task(name="bench.noop")
    def noop(number: int, payload: str) -> None:
        effect(number)

    def call_many(numbers: Iterable[int], payload: str) -> None:
        for number in numbers:
            noop.delay_on_commit(number, payload)

    return app, Peer(
        title=title,
        distributions=("celery", "kombu"),
        workers=((PYTHON, "-m", "celery", "-A", module, "worker", "-P", "prefork", "-c", "2", "-l", "info"),),
        calls=DjangoCalls(noop.delay, call_many),
    )
