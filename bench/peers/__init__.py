"""Task queues to compare: one small module each, whose ``PEER`` says how to call it and how to run its workers.

Each is used as its own documentation recommends for production, with two worker processes and otherwise its own
defaults. All run the same task, which records its number and the time outside of the framework.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers.calls import Calls


@dataclass(frozen=True)
class Setup:
    """What must be set before a peer's module can be imported."""

    settings: str = "bench.peers.settings"
    """The Django settings."""
    django6: bool = False
    """Whether the caller and the workers run in the environment with Django 6."""
    appendfsync: str = "everysec"
    """When Valkey syncs its append-only file. The default is Valkey's own."""


SETUPS = {
    "celery_default": Setup(),
    "celery_acks_late": Setup(),
    "celery_fsync": Setup(appendfsync="always"),
    "dramatiq": Setup(),
    "rq_worker": Setup(),
    "rq_simple": Setup(),
    "huey": Setup(),
    "procrastinate": Setup("bench.peers.procrastinate_settings"),
    "oban": Setup(),
    "pgqueuer": Setup(),
    "chancy": Setup(),
    "absurd": Setup(),
    "steady_queue": Setup("bench.peers.steady_queue_settings", django6=True),
    "django_tasks_db": Setup("bench.peers.django_tasks_db_settings", django6=True),
    "pressroom": Setup("app.settings"),
    "pressroom_bundles": Setup("app.settings"),
    "pressroom_plain": Setup("app.settings"),
}
"""The modules in the order of the table."""

PYTHON = sys.executable
RECORD = struct.Struct("<qd")


@dataclass(frozen=True)
class Peer:
    """A task queue."""

    title: str
    distributions: tuple[str, ...]
    """The distributions whose versions the page shows."""
    workers: tuple[tuple[str, ...], ...]
    """The commands that together run two worker processes."""
    calls: Calls
    """How a program calls its task."""
    slots: int = 2
    """The number of tasks that the workers run or hold at the same time."""
    prepare: Callable[[], object] | None = None
    """Makes the tables, if Django's ``migrate`` does not."""
    beside: tuple[tuple[str, ...], ...] = ()
    """The commands that always run beside the workers."""
    beside_ready: str = ""
    """The text that each of these commands prints when it is ready."""


def effect(number: int) -> None:
    """Record that the task has begun, outside of every framework: one record, appended atomically."""
    descriptor = os.open(os.environ["BENCH_EFFECTS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, RECORD.pack(number, time.monotonic()))
    finally:
        os.close(descriptor)


class Effects:
    """The effects since this object was made: numbers, and seconds of the clock that all processes share."""

    def __init__(self) -> None:
        self.path = Path(os.environ["BENCH_EFFECTS"])
        self.path.touch()
        self._offset = self.path.stat().st_size

    def __len__(self) -> int:
        return (self.path.stat().st_size - self._offset) // RECORD.size

    def read(self) -> list[tuple[int, float]]:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            noted = file.read()
        return list(RECORD.iter_unpack(noted[: len(noted) - len(noted) % RECORD.size]))
