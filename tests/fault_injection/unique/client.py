"""A caller, one of several: ``python -m tests.fault_injection.unique.client SYSTEM FOLDER SEED NUMBER WAVES``.

Waits for the file ``wave N`` in the folder, makes its share of the wave's calls on several threads, and writes
``done N NUMBER``. Each call has a transaction of its own, of which a tenth is rolled back.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.notes import note
from tests.support.waiting import until

PROCESSES, THREADS, CALLS = 8, 12, 125
"""Callers, the threads of each, and the calls of each in a wave."""
KEYS = 8
"""Of each kind."""
LONGEST = 0.01
"""Seconds for which a transaction stays open after its call, so that others meet it, at most."""


class Undone(Exception):
    """Rolls a transaction back."""


def main(system: str, folder: Path, seed: str, number: int, waves: int) -> None:
    """Make the calls of all waves."""
    import django

    django.setup()
    from django.db import connection

    tasks, after_commit = _tasks(system)
    barrier = threading.Barrier(THREADS)

    def connect(_: int) -> None:
        connection.ensure_connection()
        barrier.wait()  # each thread does this once

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(connect, range(THREADS)))
        print("ready", flush=True)
        for wave in range(waves):
            until((folder / f"wave {wave}").exists, f"wave {wave}")

            def call(one: int, wave: int = wave) -> None:
                rng = random.Random(f"{seed} {number} {wave} {one}")
                _call(folder, tasks, after_commit, one, rng)

            list(pool.map(call, range(CALLS)))
            (folder / f"done {wave} {number}").touch()


def _tasks(system: str) -> tuple[dict[str, Any], bool]:
    """Return the tasks of a system by kind, and whether it is called after the commit."""
    if system == "ours":
        from tests.fault_injection.unique.tasks import TASKS

        return TASKS, False
    from tests.fault_injection.unique import peers

    return peers.TASKS[system.removesuffix("-on-commit")], system.endswith("-on-commit")


def _call(folder: Path, tasks: dict[str, Any], after_commit: bool, one: int, rng: random.Random) -> None:
    from django.db import transaction

    kind, key = rng.choice(sorted(tasks)), f"key{rng.randrange(KEYS)}"
    times: list[float] = []
    given: list[str] = []

    def call() -> None:
        times.append(time.monotonic())
        result = tasks[kind].apply_async((key, one))
        times.append(time.monotonic())
        given.append(result.id or "-")

    now_or_later: Callable[[Callable[[], None]], Any] = transaction.on_commit if after_commit else lambda act: act()
    word = "committed"
    try:
        with transaction.atomic():
            now_or_later(call)
            time.sleep(rng.random() * LONGEST)
            if one % 10 == 0:
                raise Undone
    except Undone:
        word = "undone"
    if given:  # otherwise it was rolled back before it was called
        note(f"{folder}/called", f"{times[0]} {times[1]} {time.monotonic()} {word} {kind} {key} {given[0]}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
