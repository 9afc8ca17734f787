"""Tasks that are no part of the oracle's count."""

from __future__ import annotations

import os
import signal

from celery import shared_task


@shared_task(name="chaos.poison")
def poison() -> None:
    """Ends its worker's whole container, as the kernel does where memory runs out."""
    os.kill(-1, signal.SIGKILL)  # all but process 1, which ends with the worker, and this one,
    os.kill(os.getpid(), signal.SIGKILL)  # which could otherwise still tell that it succeeded


@shared_task(name="chaos.tick")
def tick() -> None:
    """Has a schedule: its runs are counted."""
