"""The processes of a worker's pool, as its main process sees and ends them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any


def processes(pool: Any) -> list[Any] | None:
    """The pool's child processes; None for a pool that has none."""
    found = getattr(getattr(pool, "_pool", None), "_pool", None)
    return found if isinstance(found, list) else None


def kill(pool: Any) -> bool:
    """Kill the pool's processes and wait until they are gone. False for a pool that has none."""
    children = processes(pool)
    if children is None:
        return False
    pids = [child.pid for child in children]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with suppress(ChildProcessError):
            # Not reaped: the pool does that, and learns from it that it needs new ones.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return True
