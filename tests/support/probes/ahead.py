"""Loaded into a process, it sets the process's clock an hour ahead.

``python -m tests.support.probes.ahead relay`` is ``manage.py relay`` with it.
libfaketime 0.9.10 breaks Python's sleep.
"""

from datetime import timedelta

import time_machine
from django.core.management import execute_from_command_line

time_machine.travel(timedelta(hours=1)).start()

if __name__ == "__main__":
    execute_from_command_line()
