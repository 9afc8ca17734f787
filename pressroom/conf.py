"""The library's settings, read from the project's Django settings, and numbers that several packages share."""

from __future__ import annotations

from django.conf import settings

from pressroom.queues import Queue

WINDOW_PER_SLOT, WINDOW_LEAST, WINDOW_MOST = 20, 40, 2_000
"""The window: how many published and unclaimed messages of one queue may be in Redis.

It is WINDOW_PER_SLOT for each slot of the queue's workers, at least WINDOW_LEAST and at most WINDOW_MOST. The other
runs wait in Postgres.
"""
SUSPECT_AFTER = 2
"""Lost attempts after which a run is a suspect: it may be what kills the workers. A queue runs one at a time."""


def declared_queues() -> dict[str, Queue]:
    """Return the queues of the setting ``TASKRUNS_QUEUES`` by name."""
    return {queue.name: queue for queue in settings.TASKRUNS_QUEUES}
