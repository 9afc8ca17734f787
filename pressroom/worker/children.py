"""Find, watch and kill the child processes of a worker's pool."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from typing import Any

LOOK = 0.01
"""Seconds between two looks at a child that is ending."""
MOST_LOOKS = 500
"""Looks at it. After so many, Celery's own look every five seconds has to do."""


def processes(pool: Any) -> list[Any] | None:
    """Return the pool's child processes, or None for a pool without processes."""
    found = getattr(getattr(pool, "_pool", None), "_pool", None)
    return found if isinstance(found, list) else None


def kill(pool: Any) -> bool:
    """Kill the pool's processes and wait until they are gone. Returns False for a pool without processes."""
    children = processes(pool)
    if children is None:
        return False
    pids = [child.pid for child in children]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with suppress(ChildProcessError):
            # WNOWAIT leaves the reaping to the pool, which replaces the processes that it reaps.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return True


def notice_ends(pool: Any) -> None:
    """Have a pool of processes notice each child's end at once. Does nothing for another pool.

    The kernel closes a child's files a moment before the child is over. Celery looks once when they are closed, and
    otherwise every five seconds. A message that the child was given waits for so long.
    """
    if processes(pool) is not None:
        pool._pool._event_process_exit = partial(_files_closed, pool._pool)


def _files_closed(pool: Any, hub: Any, child: Any) -> None:
    """In place of `AsynPool._event_process_exit`."""
    pool._untrack_child_process(child, hub)
    _look(pool, hub, child, MOST_LOOKS)


def _look(pool: Any, hub: Any, child: Any, looks: int) -> None:
    pool.maintain_pool()
    if looks and child in pool._pool:
        hub.call_later(LOOK, _look, pool, hub, child, looks - 1)
