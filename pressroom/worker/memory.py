"""Measure the memory of processes, and let forked children share it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from django.db import connection

from pressroom.database import readiness


def memory(pids: Iterable[int]) -> int | None:
    """Return the bytes that these processes hold in memory in sum. Pages that they share count for each of them.

    Returns None if there is no ``/proc``. Skips processes that are gone.
    """
    pages = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else None


def share() -> None:
    """Exclude all present objects from garbage collection before a fork, because a collection would copy their pages.

    Runs once per process: another collection would end the sharing with existing children.
    """
    if not gc.get_freeze_count():
        # Try to connect: that loads what each child would otherwise load for itself, even if there is no database.
        readiness.missing()
        connection.close()
        gc.collect()
        gc.freeze()
