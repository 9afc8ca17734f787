"""How this project opens Redis: one try at each step, with a time-out of its own.

redis-py 8 waits 5 s and tries ten times by default: in a request, or in a blocking read, both are wrong.
"""

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def redis_client(url: str, socket_timeout: float) -> Redis:
    """A client of ``url`` that waits ``socket_timeout`` seconds at most and raises redis.RedisError then."""
    return Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=min(socket_timeout, 2.0),
        retry=Retry(NoBackoff(), 0),
    )
