"""The tasks whose calls are unique, one for each kind. They note when they begin and end, for the judge."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from celery import shared_task

from tests.fault_injection.unique.judge import DONE, PERIOD, SECONDS, WAITING
from tests.support.notes import note

FOLDER = os.environ.get("UNIQUE_FOLDER", "/dev/null")
LONGEST = 0.4
"""Seconds that a run takes at most."""


def noted(kind: str, key: str, task_id: str) -> None:
    """The body of every task, also of the other libraries'."""
    run = f"{kind} {key} {task_id} {os.getpid()}"
    note(f"{FOLDER}/noted", f"{time.monotonic()} begins {run}")
    time.sleep(random.random() * LONGEST)
    note(f"{FOLDER}/noted", f"{time.monotonic()} ends {run}")


@shared_task(name="unique.while_waiting", bind=True, unique="while waiting", unique_by="key")
def while_waiting(self: Any, key: str, number: int) -> None:
    """Unique until it starts."""
    noted(WAITING, key, self.request.id)


@shared_task(name="unique.until_done", bind=True, unique="until done", unique_by="key")
def until_done(self: Any, key: str, number: int) -> None:
    """Unique until it has ended."""
    noted(DONE, key, self.request.id)


@shared_task(name="unique.seconds", bind=True, unique=PERIOD, unique_by="key")
def seconds(self: Any, key: str, number: int) -> None:
    """Unique for so many seconds."""
    noted(SECONDS, key, self.request.id)


TASKS = {WAITING: while_waiting, DONE: until_done, SECONDS: seconds}
