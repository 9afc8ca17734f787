"""The library's settings, as a project's Django settings give them, and the numbers that several rooms share."""

from __future__ import annotations

from django.conf import settings

from pressroom.queues import Queue

WINDOW_PER_SLOT, WINDOW_LEAST, WINDOW_MOST = 20, 40, 2_000
"""Messages of one queue that the relay keeps in Redis, per slot of its workers, at least and at most.

The rest wait in Postgres.
"""
SUSPECT_AFTER = 2
"""Lost attempts after which a run is a suspect: it may be what kills the workers. A queue runs one at a time."""


def declared_queues() -> dict[str, Queue]:
    """The queues of the setting ``TASKRUNS_QUEUES``, by name."""
    return {queue.name: queue for queue in settings.TASKRUNS_QUEUES}
