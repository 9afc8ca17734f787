"""Take messages out of Redis again, so that no worker of a run's old queue receives them."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import redis

from pressroom.enqueue.broker import broker_client, prefixed
from pressroom.enqueue.envelope import run_id_in

logger = logging.getLogger(__name__)

TIMEOUT = 1.0
"""Seconds for which Redis may be silent."""


def withdraw(published: Mapping[uuid.UUID, str]) -> int:
    """Remove the messages of runs from the lists of their queues. Returns how many were there.

    Call it after the commit. Best effort: a message that a worker has taken already, or that Redis keeps because it is
    away, may still start its run.
    """
    by_queue: dict[str, set[uuid.UUID]] = defaultdict(set)
    for run_id, queue in published.items():
        by_queue[queue].add(run_id)
    removed = 0
    try:
        client: Any = broker_client(socket_timeout=TIMEOUT)
        for queue, run_ids in by_queue.items():
            key = prefixed(queue)
            pipeline = client.pipeline(transaction=False)
            for message in client.lrange(key, 0, -1):
                if run_id_in(message) in run_ids:
                    pipeline.lrem(key, 1, message)
            removed += sum(pipeline.execute())
    except (redis.RedisError, OSError) as error:
        logger.warning("messages of moved runs could not be taken out of Redis: %s", error)
    return removed
