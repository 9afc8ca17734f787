"""The table of queues. Everything else that needs queues is derived from it or checked against it.

Only the standard library is used here, because the chart's generator and the tests read this file without Django.
"""

from __future__ import annotations

from pressroom.queues import Queue

BULK = "bulk"

QUEUES: tuple[Queue, ...] = (
    Queue("default", "prefork", 2, 300, 360, max_attempts=5, max_wait=60),
    Queue("emails", "prefork", 2, 120, 150, max_attempts=5, max_wait=30),
    Queue("reports", "prefork", 1, 1500, 1800, max_attempts=3, max_wait=600),
    # Mail to many: apart from `emails`, so that no single mail waits behind a mailing.
    Queue(BULK, "prefork", 2, 120, 150, max_attempts=5, max_wait=600),
)

DEFAULT_QUEUE = "default"

BY_NAME: dict[str, Queue] = {queue.name: queue for queue in QUEUES}
