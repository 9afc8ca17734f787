"""How this project opens Redis: one try at each step, with a time-out of its own.

redis-py 8 waits 5 s and tries ten times by default: in a request, or in a blocking read, both are wrong.
"""

import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ReadOnlyError
from redis.retry import Retry


def redis_client(url: str, socket_timeout: float) -> Redis:
    """A client of ``url`` that waits ``socket_timeout`` seconds at most and raises redis.RedisError then."""
    return Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=min(socket_timeout, 2.0),
        retry=Retry(NoBackoff(), 0),
    )


def is_away(error: BaseException) -> bool:
    """Whether an error is the server's: the connection is gone, or the server says that it serves nobody.

    LOADING and a refused password are connection errors of redis-py's; MASTERDOWN is a CLUSTERDOWN. Any other refusal
    is that of one command: of its key or of its value.
    """
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | ReadOnlyError | ClusterDownError | OSError)
