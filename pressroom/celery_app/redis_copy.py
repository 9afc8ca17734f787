"""Copy committed results to Redis in the format of Celery's Redis backend, for other programs to read.

Pressroom never reads the copies, so they are best effort: while Redis is away, a task waits briefly every few seconds,
and the copies of that time are missing.
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

from pressroom.database.redis import with_verify_flags

logger = logging.getLogger(__name__)

TIMEOUT = 1.0
"""Seconds to wait for an answer of Redis."""
PAUSE_AFTER_FAILURE = 5.0
"""Seconds without another try after one that failed."""
# The stubs cover half of this class, with other signatures.
_Redis: Any = RedisBackend


class RedisCopy(_Redis):  # type: ignore[misc]  # see _Redis
    """Celery's Redis backend, used only for its keys and the format of its values.

    Each ``of_…`` and ``without_…`` method returns a function that writes to Redis. Call it after the commit. It never
    raises.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connparams: dict[str, Any] = with_verify_flags(self.connparams) | {
            "socket_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 0), "retry_on_timeout": False
        }  # fmt: skip
        self.missed = 0
        """How many writes Redis did not accept, in this process."""
        self._rest_until = float("-inf")

    def of_result(self, task_id: str, result: Any, state: str, traceback: Any, request: Any) -> Callable[[], None]:
        """Copy the state and the result of a task."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        value = self.encode(meta | {"task_id": task_id})
        expires = self.failure_expires if state == states.FAILURE else None
        return lambda: self._try(lambda: self._set(self.get_key_for_task(task_id), value, expires))

    def without_result(self, task_id: str) -> Callable[[], None]:
        """Delete the state of a task."""
        return lambda: self._try(lambda: self.delete(self.get_key_for_task(task_id)))

    def of_group(self, group_id: str, result: Any) -> Callable[[], None]:
        """Copy the structure of a saved group."""
        value = self.encode({"result": result.as_tuple()})
        return lambda: self._try(lambda: self._set(self.get_key_for_group(group_id), value))

    def without_group(self, group_id: str) -> Callable[[], None]:
        """Delete a group."""
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
                # Redis refuses this copy, perhaps by cutting the connection. It may accept the next one.
                logger.exception("Redis did not accept a copy of a result")
                return
            self._rest_until = time.monotonic() + PAUSE_AFTER_FAILURE
            logger.warning("Redis does not answer: no copies of results for %s s: %s", PAUSE_AFTER_FAILURE, error)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except Exception:  # noqa: BLE001 - any error means no answer
            return False
