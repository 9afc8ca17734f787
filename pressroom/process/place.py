"""Where a process runs, so that its successor can tell that it is gone without waiting for its heartbeat."""

from __future__ import annotations

import json
import os
from pathlib import Path

from django.conf import settings

PROC = Path("/proc")


def own_place() -> str:
    """Return this process's place as JSON, or an empty text where the system does not tell it (it is not Linux).

    ``TASKRUNS_CONTAINER`` is part of it. Kubernetes starts a container anew only when its last process has ended.
    """
    pid = os.getpid()
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""
    return json.dumps([settings.TASKRUNS_CONTAINER, f"{boot} {namespace}", pid, _started(pid)])


def is_gone(other: str, own: str) -> bool:
    """Return whether the process at the place ``other`` has surely ended, as far as the one at ``own`` can know."""
    if not other or not own:
        return False
    container, namespace, pid, started = json.loads(other)
    own_container, own_namespace, _, _ = json.loads(own)
    if namespace == own_namespace:
        return bool(started) and _started(pid) != started
    return bool(container) and container == own_container


def _started(pid: int) -> str:
    """Return when the process started, in clock ticks since the boot, or an empty text if it has ended."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may have spaces. The third is the state.
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
