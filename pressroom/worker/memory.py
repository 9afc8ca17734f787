"""How much memory processes hold, and how they come to share it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from django.db import connection

from pressroom.database import readiness


def memory(pids: Iterable[int]) -> int | None:
    """Bytes that these processes have in memory together, pages that they share counted for each.

    None where there is no ``/proc``; a process that is gone counts nothing.
    """
    pages = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else None


def share() -> None:
    """Before a fork: garbage collectors leave alone what is there by now, for they would have each page copied.

    Once a process: another collection would part its memory from that of the children that it has.
    """
    if not gc.get_freeze_count():
        # The first connection sets up what each child would set up for itself. Whether there was one is all the same.
        readiness.missing()
        connection.close()
        gc.collect()
        gc.freeze()
