"""Shut a worker down: running tasks get a grace period, and what does not end in it becomes due again."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction

from pressroom.database.connections import own_connection
from pressroom.database.deferred_writes import write_rest
from pressroom.process.os_threads import native, start_native_thread
from pressroom.sql import runs, workers
from pressroom.worker import children
from pressroom.worker.heartbeat import Heartbeat
from pressroom.worker.request import identity

logger = logging.getLogger(__name__)

AFTER_EXIT = 1.0
"""Seconds until the released runs of threads and greenlets are due. The process exits in the meantime."""
LONGEST_END = 10.0
"""Seconds that a worker without running tasks has to end by itself."""


def is_asked_to_end() -> bool:
    """Return whether Celery was asked to end. It was if an exit code is set, which may be 0."""
    codes: tuple[Any, Any] = (state.should_stop, state.should_terminate)
    return any(code is not None and code is not False for code in codes)


class Shutdown:
    """Carries a worker from SIGTERM to its exit."""

    def __init__(self, worker: Any, heartbeat: Heartbeat) -> None:
        self._worker = worker
        self._heartbeat = heartbeat
        self._pid = os.getpid()

    def start_grace(self, **_: Any) -> None:
        """Start the grace period, on SIGTERM."""
        self._heartbeat.is_ending = True
        start_native_thread(self._give_up)

    def _give_up(self) -> None:
        """Wait for the end of the grace period, kill the children, and release their runs once they are gone.

        A worker that runs nothing but does not end waits only LONGEST_END: Celery's loop then hangs, because it tries
        to send its heartbeat to a Redis that is gone.
        """
        began = at_work = now = time.monotonic()
        while now < began + settings.TASKRUNS_GRACE and now < at_work + LONGEST_END:
            native("time", "sleep")(min(0.2, settings.TASKRUNS_GRACE))
            now = time.monotonic()
            if state.reserved_requests:
                at_work = now
        own_connection()
        identity.giving_up = True
        logger.warning(
            "not ended %.1f s after the shutdown began: killing what still runs, which becomes due again", now - began
        )
        # If there are no children to kill, this process must be gone before its runs are due.
        self.leave(after=None if children.kill(self._worker.pool) else AFTER_EXIT)
        os._exit(0)

    def leave(self, after: float | None = None) -> None:
        """Sign off, and release what is still claimed. It becomes due ``after`` seconds from now, or as before."""
        if os.getpid() != self._pid:
            return
        self._heartbeat.stop()
        if identity.worker_id is None:
            return
        try:
            write_rest()
            # In one transaction: otherwise the reconciler could find the runs on a dead worker and count losses.
            was_asked_to = self._heartbeat.is_ending or is_asked_to_end()
            with transaction.atomic():
                released = runs.release(identity.worker_id, after)
                # A worker that ends by an error may do so because of a message that it was about to begin.
                workers.end([identity.worker_id], lost=not was_asked_to)
        except (DatabaseError, InterfaceError):
            logger.exception("could not sign off; the reconciler will notice the silent heartbeat")
            return
        if released:
            logger.warning("released %s running tasks, which are due again", released)
