"""The cache fails open, and does not try again at once."""

from typing import Any

import pytest
import redis
from django.core.cache import cache


def test_remembers(redis_server: Any) -> None:
    cache.set("a", [1, "b"])
    assert cache.get("a") == [1, "b"]
    assert cache.delete("a")
    assert cache.get("a", "gone") == "gone"


@pytest.mark.parametrize("fault", ["stopped", "hanging"])
def test_every_call_is_a_miss_when_redis_does_not_answer(redis_server: Any, fault: str) -> None:
    cache.set("a", 1)
    if fault == "stopped":
        redis_server.stop()
    else:
        redis_server.pause(20_000)
    assert cache.get("a", "miss") == "miss"
    cache.set("a", 2)
    assert cache.add("b", 1) is True
    assert cache.touch("a") is False
    assert cache.delete("a") is False
    assert cache.get_many(["a", "b"]) == {}
    assert cache.set_many({"a": 1}) == ["a"]
    assert cache.has_key("a") is False
    assert cache.incr("n") == 1
    cache.delete_many(["a"])
    assert cache.clear() is False
    if fault == "hanging":
        with pytest.raises(redis.TimeoutError):
            # It hangs still: ten calls have waited for one time-out between them.
            redis_server.client(socket_timeout=0.05).ping()


def test_it_is_tried_again_after_the_pause(redis_server: Any) -> None:
    redis_server.stop()
    assert cache.get("a") is None
    assert cache._closed_until > 0
    redis_server.start()
    cache._closed_until = 0.0
    cache.set("a", 1)
    assert cache.get("a") == 1
