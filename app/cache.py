"""A cache that never fails a request: if Redis does not answer at once, the site runs without a cache for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis import RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = 5.0
"""Seconds after a failure in which the cache is not tried."""


class FailOpenRedisCache(RedisCache):
    """Django's Redis cache, except that it neither raises nor waits. A failure is a miss and closes it for 5 s."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {**params.get("OPTIONS", {}), "retry": Retry(NoBackoff(), 0)}
        super().__init__(server, {**params, "OPTIONS": options})
        self._closed_until = 0.0

    def _try(self, call: Callable[[], Any], otherwise: Any) -> Any:
        if time.monotonic() < self._closed_until:
            return otherwise
        try:
            return call()
        except (RedisError, OSError) as error:
            self._closed_until = time.monotonic() + PAUSE_AFTER_FAILURE
            logger.warning("the cache does not answer, continuing without it for %s s: %s", PAUSE_AFTER_FAILURE, error)
            return otherwise

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try(lambda: super(FailOpenRedisCache, self).add(*args, **kwargs), True))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._try(lambda: super(FailOpenRedisCache, self).get(key, default, version), default)

    def set(self, *args: Any, **kwargs: Any) -> None:
        self._try(lambda: super(FailOpenRedisCache, self).set(*args, **kwargs), None)

    def touch(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try(lambda: super(FailOpenRedisCache, self).touch(*args, **kwargs), False))

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try(lambda: super(FailOpenRedisCache, self).delete(*args, **kwargs), False))

    def get_many(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        found: dict[Any, Any] = self._try(lambda: super(FailOpenRedisCache, self).get_many(*args, **kwargs), {})
        return found

    def has_key(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try(lambda: super(FailOpenRedisCache, self).has_key(*args, **kwargs), False))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        return int(self._try(lambda: super(FailOpenRedisCache, self).incr(key, delta, version), delta))

    def set_many(self, data: dict[Any, Any], *args: Any, **kwargs: Any) -> list[Any]:
        refused: list[Any] = self._try(
            lambda: super(FailOpenRedisCache, self).set_many(data, *args, **kwargs), list(data)
        )
        return refused

    def delete_many(self, *args: Any, **kwargs: Any) -> None:
        self._try(lambda: super(FailOpenRedisCache, self).delete_many(*args, **kwargs), None)

    def clear(self) -> bool:  # type: ignore[override]  # the stubs say None
        return bool(self._try(lambda: super(FailOpenRedisCache, self).clear(), False))
