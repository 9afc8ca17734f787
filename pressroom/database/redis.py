"""Clients of Redis that try each step once, with a time-out.

By default redis-py 8 waits 5 s and tries ten times. Both are wrong in a request and in a blocking read.
"""

from typing import Any

import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import parse_ssl_verify_flags
from redis.exceptions import ClusterDownError, ReadOnlyError
from redis.retry import Retry


def redis_client(url: str, socket_timeout: float) -> Redis:
    """Return a client of ``url`` that waits at most ``socket_timeout`` seconds and then raises redis.RedisError."""
    return Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=min(socket_timeout, 2.0),
        retry=Retry(NoBackoff(), 0),
    )


def with_verify_flags(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a connection with the flags of ``ssl_…_verify_flags`` in a URL parsed.

    redis-py does that in its own URLs. kombu and Celery's result backend do not.
    """
    names = ("ssl_include_verify_flags", "ssl_exclude_verify_flags")
    texts = {name: parameters[name] for name in names if isinstance(parameters.get(name), str)}
    return parameters | {name: parse_ssl_verify_flags(text) for name, text in texts.items()}  # type: ignore[no-untyped-call]


def is_away(error: BaseException) -> bool:
    """Return whether an error belongs to the server: the connection is gone, or the server says that it cannot serve.

    redis-py raises LOADING and a refused password as connection errors, and MASTERDOWN as ClusterDownError. Any other
    error belongs to one command, to its key or its value.
    """
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | ReadOnlyError | ClusterDownError | OSError)
