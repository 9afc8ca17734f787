"""The tasks under limits. They note when they begin and end in a file, from which the judge reads."""

from __future__ import annotations

import os
import random
import time

from celery import shared_task

from tests.fault_injection.limits.judge import AT_ONCE, RATE
from tests.support.notes import note

FOLDER = os.environ.get("LIMITS_FOLDER", "/dev/null")
LONGEST = 0.2
"""Seconds that a run takes at most."""


def _noted(kind: str, key: str, number: int) -> None:
    call = f"{kind} {key} {number} {os.getpid()}"
    note(f"{FOLDER}/noted", f"{time.monotonic()} begins {call}")
    time.sleep(random.random() * LONGEST)
    note(f"{FOLDER}/noted", f"{time.monotonic()} ends {call}")


@shared_task(name="limits.at_once", concurrency=AT_ONCE, key="key")
def at_once(key: str, number: int) -> None:
    """So many at once for each key."""
    _noted("at_once", key, number)


@shared_task(name="limits.rated", rate=RATE, key="key")
def rated(key: str, number: int) -> None:
    """So many starts in a time for each key."""
    _noted("rated", key, number)
