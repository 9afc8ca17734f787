"""The wake-up that tells the relay of a commit: best effort, in a thread of its own, so that no caller ever waits.

Without it the relay finds the row at its next poll.
"""

from __future__ import annotations

import logging
import os
import threading
import time

import redis
from django.conf import settings

from app.redis import redis_client

logger = logging.getLogger(__name__)

KEY = "pressroom:wake"
PAUSE_AFTER_FAILURE = 5.0
"""Seconds without a try after one that failed."""


def broker_client(socket_timeout: float) -> redis.Redis:
    """A client of the broker's database; see ``app.redis``."""
    return redis_client(settings.CELERY_BROKER_URL, socket_timeout)


def prefixed(key: str) -> str:
    """The key as kombu writes it, with the prefix of ``CELERY_BROKER_TRANSPORT_OPTIONS``."""
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS.get('global_keyprefix', '')}{key}"


class Waker:
    """Coalesces wake-ups: many commits while one is on its way make one more."""

    def __init__(self) -> None:
        self.failures = 0
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Ask for a wake-up. Touches no network and never raises."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="taskruns-wake", daemon=True)
                    self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        client = broker_client(socket_timeout=0.5)
        key = prefixed(KEY)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                # One entry is enough, however many commits it stands for.
                pipeline = client.pipeline(transaction=False)
                pipeline.lpush(key, 1)
                pipeline.ltrim(key, 0, 0)
                pipeline.execute()
            except (redis.RedisError, OSError) as error:
                self.failures += 1
                logger.warning("no wake-up for the relay, which will find the work at its next poll: %s", error)
                time.sleep(PAUSE_AFTER_FAILURE)


waker = Waker()
