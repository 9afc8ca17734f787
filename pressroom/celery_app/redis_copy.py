"""A copy of committed results in Redis, as Celery's Redis backend writes them, for whoever reads them there.

Nothing of ours reads it. So it is best effort: a Redis that is away costs a task one short wait every few seconds, and
what was not written then is missing there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

TIMEOUT = 1.0
"""Seconds for an answer of Redis."""
PAUSE_AFTER_FAILURE = 5.0
"""Seconds without a try after one that failed."""
# The stubs know half of this class, and that half differently.
_Redis: Any = RedisBackend


class RedisCopy(_Redis):  # type: ignore[misc]  # see _Redis
    """Celery's Redis backend, of which the keys and the form of what is kept under them are used.

    Each ``of_…`` and ``without_…`` returns what writes to Redis, to be called after the commit; that never raises.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connparams |= {"socket_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 0), "retry_on_timeout": False}
        self.missed = 0
        """How many writes Redis did not take, in this process."""
        self._rest_until = float("-inf")

    def of_result(self, task_id: str, result: Any, state: str, traceback: Any, request: Any) -> Callable[[], None]:
        """A task's state with its result."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        value = self.encode(meta | {"task_id": task_id})
        expires = self.failure_expires if state == states.FAILURE else None
        return lambda: self._try(lambda: self._set(self.get_key_for_task(task_id), value, expires))

    def without_result(self, task_id: str) -> Callable[[], None]:
        """Forget a task's state."""
        return lambda: self._try(lambda: self.delete(self.get_key_for_task(task_id)))

    def of_group(self, group_id: str, result: Any) -> Callable[[], None]:
        """A group, of which somebody saved the results' structure."""
        value = self.encode({"result": result.as_tuple()})
        return lambda: self._try(lambda: self._set(self.get_key_for_group(group_id), value))

    def without_group(self, group_id: str) -> Callable[[], None]:
        """Forget a group."""
        return lambda: self._try(lambda: self.delete(self.get_key_for_group(group_id)))

    def _try(self, write: Callable[[], object]) -> None:
        if time.monotonic() < self._rest_until:
            self.missed += 1
            return
        try:
            write()
        except Exception as error:
            self.missed += 1
            if self._answers():
                # What it refuses is this one, perhaps by cutting the connection: the next may well be taken.
                logger.exception("Redis did not take a copy of a result")
                return
            self._rest_until = time.monotonic() + PAUSE_AFTER_FAILURE
            logger.warning(
                "Redis gets no copies of results for %s s, it does not answer: %s", PAUSE_AFTER_FAILURE, error
            )

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except Exception:  # noqa: BLE001 - whatever keeps it from answering
            return False
