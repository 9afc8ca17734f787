"""A child of the pool whose files are closed, and which is not over yet."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

from pressroom.worker import children
from tests.support.waiting import until


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def pool(hub: Hub) -> Iterator[AsynPool]:
    pool = AsynPool(processes=1, synack=False, threads=False)
    children.notice_ends(SimpleNamespace(_pool=pool))
    pool.register_with_event_loop(hub)
    yield pool
    for child in pool._pool:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)


def test_a_child_that_closes_its_files_before_it_is_over(pool: Any, hub: Hub) -> None:
    """Celery looked once, too early, and then five seconds later. Its timer is not needed, so it is off here."""
    hub.timer.clear()
    [child] = pool._pool
    pool._event_process_exit(hub, child)
    assert pool._pool == [child], "it is not over"

    os.kill(child.pid, signal.SIGKILL)

    def replaced() -> bool:
        hub.fire_timers()
        return bool(pool._pool) and pool._pool != [child]

    until(replaced, "another child is in its place")


def test_a_child_that_goes_on_without_its_files(pool: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may close all files of its process."""
    monkeypatch.setattr(children, "MOST_LOOKS", 3)
    looks: list[None] = []
    maintain = pool.maintain_pool
    pool.maintain_pool = lambda: (looks.append(None), maintain())
    hub.timer.clear()
    [child] = pool._pool
    pool._event_process_exit(hub, child)

    def is_over() -> bool:
        hub.fire_timers()
        return not len(hub.timer)

    until(is_over, "the looks end")
    assert len(looks) == 4
    assert pool._pool == [child]


def test_a_pool_without_processes() -> None:
    children.notice_ends(SimpleNamespace(_pool=object()))
