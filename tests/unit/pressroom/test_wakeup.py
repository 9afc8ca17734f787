"""A wake-up is one entry of a list, and the connection that brought it stays in step with its answers."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pressroom.enqueue.broker import broker_client
from pressroom.enqueue.wakeup import _wake_relay


def test_many_wake_ups_are_one_entry(redis_server: Any) -> None:
    client = broker_client(socket_timeout=5)
    for _ in range(3):
        _wake_relay(client, "awake")
    assert client.lrange("awake", 0, -1) == [b"1"]


def test_a_wake_up_that_redis_refuses_leaves_no_answer_behind(redis_server: Any) -> None:
    client = broker_client(socket_timeout=5)
    client.set("awake", "no list")
    for _ in range(3):
        _wake_relay(client, "awake")
        assert client.get("awake") == b"no list"
    assert client.connection_pool.get_connection_count()[0][0] == 1, "all of them went through one connection"


def test_a_connection_that_was_closed_meanwhile_is_made_anew(redis_server: Any) -> None:
    client = broker_client(socket_timeout=5)
    _wake_relay(client, "awake")
    redis_server.client().client_kill_filter(_type="normal", skipme=True)
    _wake_relay(client, "awake")
    assert client.llen("awake") == 1


def test_a_redis_that_is_away_is_an_error_and_then_is_back(redis_server: Any) -> None:
    client = broker_client(socket_timeout=5)
    _wake_relay(client, "awake")
    redis_server.stop()
    for _ in range(2):
        with pytest.raises(redis.RedisError):
            _wake_relay(client, "awake")
    redis_server.start()
    _wake_relay(client, "awake")
    assert client.llen("awake") == 1
