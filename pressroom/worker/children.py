"""Find and kill the child processes of a worker's pool."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any


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
