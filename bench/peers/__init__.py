"""Task queues side by side: one small file each, with a ``PEER`` that says how it is called and how its workers run.

Each is used as its own documentation says for production, with two worker processes, its own defaults where this
says nothing else, and the same task: one that notes its number and the time outside of the framework.
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
"""The modules in the order of the table, and Django's settings of each."""

PYTHON = sys.executable
RECORD = struct.Struct("<qd")


@dataclass(frozen=True)
class Peer:
    """A task queue. ``call`` and the others take the task's number and its payload."""

    title: str
    distributions: tuple[str, ...]
    """Whose versions are told."""
    workers: tuple[tuple[str, ...], ...]
    """The commands that are two worker processes together."""
    call: Callable[[int, str], object]
    """One task, due now."""
    transactional: bool = False
    """Whether a call is a part of Django's transaction around it; others are made once it is committed."""
    call_many: Callable[[Iterable[int], str], object] | None = None
    """Many, within Django's transaction around it; None where the framework has no way to do that."""
    beside: tuple[tuple[str, ...], ...] = ()
    """Commands of what runs beside the workers, always."""
    beside_ready: str = ""
    """What each of these says when it is ready."""


def effect(number: int) -> None:
    """Note outside of every framework that the task has begun: one appended record, whole whoever else appends."""
    descriptor = os.open(os.environ["BENCH_EFFECTS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, RECORD.pack(number, time.monotonic()))
    finally:
        os.close(descriptor)


class Effects:
    """What was noted since this was made: numbers, and seconds of the clock that all processes share."""

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
