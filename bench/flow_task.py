"""The task of `bench.flow`: under a limit for each key, it waits as for a service, and is noted."""

from __future__ import annotations

import os
import time

from celery import shared_task

from bench.peers import effect

WAIT = 0.02
"""Seconds that the body waits."""


@shared_task(name="bench.keyed", concurrency=1, rate="100/m", key="key")
def keyed(key: int) -> None:
    """One at once, and a hundred a minute, of each key."""
    time.sleep(WAIT)
    effect(os.getpid())
