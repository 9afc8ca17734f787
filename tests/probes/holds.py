"""Loaded into a process, it stops that process at the point HOLD_AT, the first time, until it is killed.

The process id goes into HOLD_FILE. ``python -m tests.probes.holds relay`` is ``manage.py relay`` with it.
"""

import os
import signal

from django.core.management import execute_from_command_line

from app.taskruns import faults
from tests.notes import note, noted


def hold(point: str) -> None:
    path = os.environ["HOLD_FILE"]
    if point == os.environ["HOLD_AT"] and not noted(path):
        note(path, str(os.getpid()))
        while True:
            signal.pause()


faults.reach = hold

if __name__ == "__main__":
    execute_from_command_line()
