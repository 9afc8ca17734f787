"""Ends the processes of ``make up``: in order when it is stopped, and also when its manager is killed.

The manager writes to this process's standard input what it starts. The end of the input, wanted or not, is the
signal to stop everything; so there is one way to stop, and a SIGKILL of the manager takes it as well.

Run by path, with the standard library only.
"""

import glob
import os
import signal
import sys
import time

GRACE = {1: 10.0, 0: 3.0}
"""Seconds that the processes of a stage have after their signal, by stage: first the application, then its services.
Together less than the 15 s within which Ctrl-C ends all."""


def gone(group: int) -> bool:
    """Whether nothing runs in the group any more."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # the latter is what macOS says of a zombie
        return True
    # Dead processes whose new parent is slow to ask for them count as there; in a container it may never ask.
    return sys.platform.startswith("linux") and all(state in "ZX" for state in states(group))


def states(group: int) -> list[str]:
    """The state of each process of the group, as Linux tells it."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, errors="replace") as file:
                state, _, its_group, *_ = file.read().rpartition(")")[2].split()
        except (OSError, ValueError):  # ended meanwhile
            continue
        if int(its_group) == group:
            found.append(state)
    return found


def stop(stage: int, watched: dict[int, tuple[str, int, int]]) -> None:
    """Signal each process of the stage, then kill the groups of those that are still there after the grace period.

    The signal goes to the process alone, never to its group: a pool's children must not get it, their parent lets
    them finish (airflow#18066).
    """
    left = {group: (name, number) for group, (name, number, its_stage) in watched.items() if its_stage == stage}
    for pid, (_, number) in left.items():
        if not gone(pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # only children of it are left: they have had their parent's time
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
