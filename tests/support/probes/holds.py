"""Loaded into a process, it stops that at the point HOLD_AT, come to it HOLD_COUNT times (1), until it is killed.

The process id goes into HOLD_FILE. ``python -m tests.support.probes.holds relay`` is ``manage.py relay`` with it.
"""

import os
import signal

from django.core.management import execute_from_command_line

from pressroom.process import kill_points
from tests.support.notes import note, noted

_come = 0


def hold(point: str) -> None:
    global _come  # noqa: PLW0603 - one process, one point
    path = os.environ["HOLD_FILE"]
    if point != os.environ["HOLD_AT"]:
        return
    _come += 1
    if _come >= int(os.environ.get("HOLD_COUNT", "1")) and not noted(path):
        note(path, str(os.getpid()))
        while True:
            signal.pause()


kill_points.reach = hold

if __name__ == "__main__":
    execute_from_command_line()
