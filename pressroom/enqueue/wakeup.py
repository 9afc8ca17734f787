"""What a process says to Redis after a commit: best effort, in a thread of its own, so that no caller ever waits.

That is the wake-up of the relay, which finds the row at its next poll without it, and the messages of tasks that are
not durable.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque

from pressroom.enqueue.broker import broker_client, prefixed

logger = logging.getLogger(__name__)

KEY = "pressroom:wake"
REST = 0.003
"""Seconds between two wake-ups at least: many calls one after another are one for the relay."""
PAUSE_AFTER_FAILURE = 5.0
"""Seconds without a try after one that failed."""
MOST_MESSAGES = 10_000
"""Messages of not durable tasks that wait for Redis in this process; beyond it the oldest is dropped."""
BATCH = 500
LARGE = 100_000
"""Characters of a message that goes by itself."""
LAST_CALL = 1.0
"""Seconds that a process which ends gives to what is still to be sent."""


def _is_large(batch: list[tuple[str, str]]) -> bool:
    return any(len(message) > LARGE for _, message in batch)


class Waker:
    """Coalesces wake-ups: many commits while one is on its way make one more."""

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
        """Ask for a wake-up. Touches no network and never raises."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="taskruns-wake", daemon=True)
                    self._thread.start()
        self._wanted.set()

    def send(self, queue: str, message: str) -> None:
        """Have a message of plain Celery put into its queue, if Redis takes it. Touches no network, never raises."""
        if len(self._messages) >= MOST_MESSAGES:
            self._messages.popleft()
            self.dropped += 1
        self._messages.append((queue, message))
        self.wake()

    def _run(self) -> None:
        client = broker_client(socket_timeout=0.5)
        key = prefixed(KEY)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            self._sending = True
            batch = self._next_batch()
            try:
                pipeline = client.pipeline(transaction=False)
                # One entry is enough, however many commits it stands for.
                pipeline.lpush(key, 1)
                pipeline.ltrim(key, 0, 0)
                for queue, message in batch:
                    pipeline.lpush(prefixed(queue), message)
                answers = pipeline.execute(raise_on_error=False)[2:]
                refused = [answer for answer in answers if isinstance(answer, Exception)]
                if refused:
                    self.dropped += len(refused)
                    logger.error(
                        "Redis refused %s messages of tasks that are not durable: %s", len(refused), refused[0]
                    )
                time.sleep(REST)
            except Exception as error:  # noqa: BLE001 - this thread must not end while the process lives
                self.failures += 1
                self.dropped += len(batch)
                logger.warning("Redis does not answer: no wake-up for the relay, which polls; dropped %s messages of "
                               "tasks that are not durable: %s", len(batch), error)  # fmt: skip
                if not _is_large(batch):
                    time.sleep(PAUSE_AFTER_FAILURE)
            self._sending = False
            if self._messages:
                self._wanted.set()

    def _next_batch(self) -> list[tuple[str, str]]:
        """A large message goes by itself: Redis may cut the line at it."""
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
