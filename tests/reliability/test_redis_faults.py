"""Redis slow, read-only, full, restarted again and again: nothing is lost, nothing done twice, and all come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.local.servers import free_port
from tests.reliability.loads import assert_once_each, call
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("redis faults")

COUNT = 150


@pytest.fixture
def running(stack: Stack) -> Iterator[tuple[Process, Process]]:
    """A relay and a worker, which are the same processes at the end of the test."""
    relay, worker = stack.relay(), stack.worker("--concurrency=2")
    yield relay, worker
    assert relay.popen.poll() is None, relay.output()
    assert worker.popen.poll() is None, worker.output()


def came_back(effects: str) -> None:
    """A task called now is done; prints how long that took. The limit is a guard against hanging."""
    began = time.monotonic()
    tasks.effect.delay(f"{effects}.after", "back")
    until(lambda: noted(f"{effects}.after"), "a task is done after the fault", timeout=120)
    print(f"back after {time.monotonic() - began:.1f} s")


def slow(redis_server: Any) -> Callable[[], None]:
    redis_server.pause(6_000)
    return lambda: until(lambda: redis_server.client(socket_timeout=60).ping(), "the pause is over")


def read_only(redis_server: Any) -> Callable[[], None]:
    redis_server.client().execute_command("REPLICAOF", "127.0.0.1", free_port())
    return lambda: redis_server.client().execute_command("REPLICAOF", "NO", "ONE")


def full(redis_server: Any) -> Callable[[], None]:
    redis_server.client().config_set("maxmemory", 1)
    return lambda: redis_server.client().config_set("maxmemory", 0)


def away(redis_server: Any) -> Callable[[], None]:
    """And with what it knew: the one that comes is empty."""
    redis_server.stop()
    return redis_server.start


@pytest.mark.parametrize("fault", [slow, read_only, full, away])
def test_a_fault_under_load(
    running: tuple[Process, Process], effects: str, redis_server: Any, fault: Callable[[Any], Callable[[], None]]
) -> None:
    relay, _ = running
    call(effects, range(COUNT))
    until(lambda: len(noted(effects)) >= 10, "work is under way")
    mend = fault(redis_server)
    began = time.monotonic()
    # What a caller does in the meantime costs the usual: Redis is not asked.
    call(effects, range(COUNT, COUNT + 20))
    assert time.monotonic() - began < 4.0
    # Full, it answers: each queue waits by itself.
    relay.wait_for("Redis refuses messages" if fault is full else "Redis is away")
    mend()
    came_back(effects)
    until(done, "everything is done")

    assert_once_each(effects, range(COUNT + 20))


def test_restarted_20_times_under_load(running: tuple[Process, Process], effects: str, redis_server: Any) -> None:
    """Each time it comes back empty. celery#8030: a worker that takes nothing more after Redis was away."""
    for turn in range(20):
        call(effects, range(turn * 10, turn * 10 + 10))
        if turn % 5 == 0:
            until(lambda turn=turn: len(noted(effects)) > turn * 5, "work is under way")
        redis_server.stop()
        redis_server.start()
    came_back(effects)
    until(done, "everything is done")

    assert_once_each(effects, range(200))
