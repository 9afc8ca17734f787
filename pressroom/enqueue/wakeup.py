"""What a process sends to Redis after a commit: wake-ups of the relay, and the messages of tasks that are not durable.

Both are best effort. A thread of its own sends them, so that no caller ever waits for Redis. Without a wake-up the
relay finds the row at its next poll.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

import redis

from pressroom.enqueue.broker import broker_client, prefixed

logger = logging.getLogger(__name__)

KEY = "pressroom:wake"
"""The Redis list on which the relay waits for wake-ups."""
REST = 0.003
"""Seconds between two wake-ups at least: calls in quick succession cause a single one."""
PAUSE_AFTER_FAILURE = 5.0
"""Seconds for which the thread does not try again after a failure."""
MOST_MESSAGES = 10_000
"""Messages of tasks that are not durable which may wait in this process. Beyond that the oldest is dropped."""
BATCH = 500
"""Messages sent at once at most."""
LARGE = 100_000
"""A message of more characters is sent alone."""
LAST_CALL = 1.0
"""Seconds for which a process that exits waits until everything is sent."""


def _is_large(batch: list[tuple[str, str]]) -> bool:
    return any(len(message) > LARGE for _, message in batch)


def _wake_relay(client: redis.Redis, key: str) -> None:
    """Push a single entry, which wakes the relay for any number of commits.

    A pipeline of redis-py would do the same for almost three times the CPU, of which each call would pay a part.
    """
    connection: Any = client.connection_pool.get_connection()
    try:
        commands = connection.pack_commands([("LPUSH", key, 1), ("LTRIM", key, 0, 0)])
        connection.send_packed_command(commands)
        for _ in range(2):
            # If Redis refuses it, the relay polls.
            with suppress(redis.ResponseError):
                connection.read_response()
    finally:
        client.connection_pool.release(connection)


class Waker:
    """Sends wake-ups and messages. All commits during one wake-up cause only one more."""

    def __init__(self) -> None:
        self.failures = 0
        self.dropped = 0
        """Messages that never reached Redis."""
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._last_call)

    def _reset(self) -> None:
        self._messages: deque[tuple[str, str]] = deque()
        self._wanted = threading.Event()
        self._sending = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Request a wake-up of the relay. Never touches the network and never raises."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="taskruns-wake", daemon=True)
                    self._thread.start()
        self._wanted.set()

    def send(self, queue: str, message: str) -> None:
        """Have a message of plain Celery pushed to its queue. It is dropped if Redis does not accept it.

        Never touches the network and never raises.
        """
        if len(self._messages) >= MOST_MESSAGES:
            self._messages.popleft()
            self.dropped += 1
        self._messages.append((queue, message))
        self.wake()

    def _run(self) -> None:
        client = broker_client(socket_timeout=0.5)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            self._sending = True
            batch = self._next_batch()
            try:
                _wake_relay(client, prefixed(KEY))
                if batch:
                    self._push(client, batch)
                time.sleep(REST)
            except Exception as error:  # noqa: BLE001 - this thread must not end while the process lives
                self.failures += 1
                self.dropped += len(batch)
                logger.warning("Redis does not answer: the relay gets no wake-up and polls; dropped %s messages of "
                               "tasks that are not durable: %s", len(batch), error)  # fmt: skip
                if not _is_large(batch):
                    time.sleep(PAUSE_AFTER_FAILURE)
            self._sending = False
            if self._messages:
                self._wanted.set()

    def _push(self, client: redis.Redis, batch: list[tuple[str, str]]) -> None:
        pipeline = client.pipeline(transaction=False)
        for queue, message in batch:
            pipeline.lpush(prefixed(queue), message)
        refused = [answer for answer in pipeline.execute(raise_on_error=False) if isinstance(answer, Exception)]
        if refused:
            self.dropped += len(refused)
            logger.error("Redis refused %s messages of tasks that are not durable: %s", len(refused), refused[0])

    def _next_batch(self) -> list[tuple[str, str]]:
        """Return the messages to send next. A large one is alone: Redis may close the connection because of it."""
        batch: list[tuple[str, str]] = []
        while self._messages and len(batch) < BATCH:
            if batch and _is_large([self._messages[0]]):
                break
            batch.append(self._messages.popleft())
            if _is_large(batch[-1:]):
                break
        return batch

    def _last_call(self) -> None:
        end = time.monotonic() + LAST_CALL
        while (self._messages or self._sending) and time.monotonic() < end:
            time.sleep(0.01)


waker = Waker()
