"""The one table of queues. Everything that needs to know a queue is derived from it or checked against it.

Standard library only: the chart's generator and the tests read it without Django.
"""

from __future__ import annotations

from pressroom.queues import Queue

QUEUES: tuple[Queue, ...] = (
    Queue("default", "prefork", 2, 300, 360, max_attempts=5, max_wait=60),
    Queue("emails", "prefork", 2, 120, 150, max_attempts=5, max_wait=30),
    Queue("reports", "prefork", 1, 1500, 1800, max_attempts=3, max_wait=600),
)

DEFAULT_QUEUE = "default"

BY_NAME: dict[str, Queue] = {queue.name: queue for queue in QUEUES}
