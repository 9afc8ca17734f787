"""The library's settings, read from the project's Django settings, and numbers that several packages share."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from pressroom.queues import Queue

WINDOW_PER_SLOT, WINDOW_LEAST, WINDOW_MOST = 20, 40, 2_000
"""The window: how many published and unclaimed messages of one queue may be in Redis.

It is WINDOW_PER_SLOT for each slot of the queue's workers, at least WINDOW_LEAST and at most WINDOW_MOST. The other
runs wait in Postgres.
"""
SUSPECT_AFTER = 2
"""Lost attempts after which a run is a suspect: it may be what kills the workers. A queue runs one at a time."""


def declared_queues() -> dict[str, Queue]:
    """Return the queues of the setting ``TASKRUNS_QUEUES`` by name. Raises ImproperlyConfigured."""
    queues = settings.TASKRUNS_QUEUES
    if not isinstance(queues, list | tuple) or not queues or not all(isinstance(queue, Queue) for queue in queues):
        raise ImproperlyConfigured(
            f"TASKRUNS_QUEUES is {queues!r:.200}. Set it to a list of pressroom.queues.Queue, one for each queue."
        )
    by_name = {queue.name: queue for queue in queues}
    if len(by_name) < len(queues):
        raise ImproperlyConfigured("TASKRUNS_QUEUES names a queue twice.")
    return by_name


DEFAULTS: dict[str, object] = {
    "TASKRUNS_QUEUES": (Queue("default", "prefork", 2, 300, 360, max_attempts=5, max_wait=60),),
    "TASKRUNS_HEARTBEAT": 5.0,
    "TASKRUNS_SILENCE": 20.0,
    "TASKRUNS_CONTAINER": "",
    "TASKRUNS_GRACE": 25.0,
    "TASKRUNS_POOL_CONNECTIONS": 10,
    "TASKRUNS_UNCLAIMED": 10.0,
    "TASKRUNS_UNKNOWN_PAUSE": 30.0,
    "TASKRUNS_UNKNOWN_LIMIT": 900.0,
    "TASKRUNS_MAX_MESSAGE": 8 * 1024 * 1024,
    "TASKRUNS_RETENTION": {"succeeded": 7, "replaced": 7, "cancelled": 30, "expired": 30, "dead": 90},
    "TASKRUNS_ALIVE_FILE": "",
    "TASKRUNS_METRICS_PORT": 0,
    "TASKRUNS_EVENT_STREAMS": 2,
    "TASKRUNS_EVENT_STREAM_LIFETIME": 30.0,
    "TASKRUNS_APPS": [],
    "CELERY_BROKER_TRANSPORT_OPTIONS": {},
    "CELERY_RESULT_BACKEND": "pressroom.celery_app.result_backend:LedgerBackend",
    "CELERY_WORKER_CONSUMER": "pressroom.worker.consumer:LedgerConsumer",
    "CELERY_WORKER_DISABLE_PREFETCH": True,
    "CELERY_WORKER_PREFETCH_MULTIPLIER": 1,
    "CELERY_BEAT_SCHEDULER": "pressroom.beat.scheduler:LedgerScheduler",
    "CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP": True,
    "CELERY_BROKER_CHANNEL_ERROR_RETRY": True,
    "CELERY_BROKER_CONNECTION_MAX_RETRIES": None,
    "CELERY_TASK_TRACK_STARTED": True,
    "CELERY_TASK_CREATE_MISSING_QUEUES": False,
    "CELERY_TASK_SEND_SENT_EVENT": False,
    "CELERY_BEAT_SCHEDULE": {},
}
"""What each setting is where a project does not give it; docs/settings.md says what they mean."""


def set_defaults() -> None:
    """Give the project's settings each default that they lack. Celery's queues are the declared ones."""
    for name, value in DEFAULTS.items():
        _set_default(name, value)
    names = list(declared_queues())
    _set_default("CELERY_TASK_QUEUES", {name: {"exchange": name, "routing_key": name} for name in names})
    _set_default("CELERY_TASK_DEFAULT_QUEUE", names[0])


def _set_default(name: str, value: object) -> None:
    if not hasattr(settings, name):
        setattr(settings, name, value)
