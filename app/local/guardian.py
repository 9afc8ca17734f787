"""Ends the processes of ``make up``: in order when it is stopped, and also when its manager is killed.

The manager writes the processes that it starts to this process's standard input. The end of that input, intended or
not, is the signal to stop everything. So there is only one way to stop, and a SIGKILL of the manager takes it as well.

This file is run by path and uses only the standard library.
"""

import glob
import os
import signal
import sys
import time

GRACE = {1: 10.0, 0: 3.0}
"""Seconds that the processes of a stage have after their signal, by stage: the application first, then its services.
The sum is less than the 15 s within which Ctrl-C ends everything."""


def gone(group: int) -> bool:
    """Whether no process runs in the group any more."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS raises the latter for a zombie
        return True
    # Zombies still count as members until their new parent reaps them. In a container it may never do so.
    return sys.platform.startswith("linux") and all(state in "ZX" for state in states(group))


def states(group: int) -> list[str]:
    """Return the state of each process of the group, as Linux reports it."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, errors="replace") as file:
                state, _, its_group, *_ = file.read().rpartition(")")[2].split()
        except (OSError, ValueError):  # the process has ended
            continue
        if int(its_group) == group:
            found.append(state)
    return found


def stop(stage: int, watched: dict[int, tuple[str, int, int]]) -> None:
    """Signal each process of the stage. After the grace period, kill the groups of those that are left.

    The signal goes to the process alone, never to its group. The children of a pool must not get it, because their
    parent lets them finish (airflow#18066).
    """
    left = {group: (name, number) for group, (name, number, its_stage) in watched.items() if its_stage == stage}
    for pid, (_, number) in left.items():
        if not gone(pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # only its children are left, and they have had their parent's grace period
                pass
    deadline = time.monotonic() + GRACE[stage]
    while left and time.monotonic() < deadline:
        left = {group: entry for group, entry in left.items() if not gone(group)}
        time.sleep(0.05)
    for group, (name, _) in left.items():
        try:
            os.killpg(group, signal.SIGKILL)
            print(f"{name} did not end within {GRACE[stage]:.0f} s: killed", file=sys.stderr, flush=True)
        except OSError:
            pass


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watched: dict[int, tuple[str, int, int]] = {}
    for line in sys.stdin:
        what, pid, *rest = line.split()
        if what == "watch":
            name, number, stage = rest
            watched[int(pid)] = (name, int(number), int(stage))
        else:
            watched.pop(int(pid), None)
    for stage in GRACE:
        stop(stage, watched)


if __name__ == "__main__":
    main()
