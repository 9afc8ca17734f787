"""Task queues to compare: one small module each, whose ``PEER`` says how to call it and how to run its workers.

Each is used as its own documentation recommends for production, with two worker processes and otherwise its own
defaults. All run the same task, which records its number and the time outside of the framework.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

BARE = "bench.peers.settings"
SETTINGS = {
    "celery_default": BARE, "celery_acks_late": BARE, "dramatiq": BARE, "rq_worker": BARE, "rq_simple": BARE,
    "huey": BARE, "procrastinate": "bench.peers.procrastinate_settings", "pressroom": "app.settings",
    "pressroom_bundles": "app.settings", "pressroom_plain": "app.settings",
}  # fmt: skip
"""The modules in the order of the table, with the Django settings of each."""

PYTHON = sys.executable
RECORD = struct.Struct("<qd")


@dataclass(frozen=True)
class Peer:
    """A task queue. ``call`` and ``call_many`` take the number of a task and its payload."""

    title: str
    distributions: tuple[str, ...]
    """The distributions whose versions the page shows."""
    workers: tuple[tuple[str, ...], ...]
    """The commands that together run two worker processes."""
    call: Callable[[int, str], object]
    """Calls one task that is due now."""
    transactional: bool = False
    """Whether a call belongs to the surrounding transaction. If not, it is made after the commit."""
    call_many: Callable[[Iterable[int], str], object] | None = None
    """Makes many calls within a transaction, or None if the framework has no way to do that."""
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
