"""How a worker ends: running tasks have a grace period, and what they leave undone is due again."""

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
"""Seconds between the release of what threads and greenlets ran and its being due: the process exits meanwhile."""
LONGEST_END = 10.0
"""Seconds that a worker which runs nothing has to end by itself."""


def is_told_to_end() -> bool:
    """Whether Celery was told to end, with an exit code, which may be 0."""
    codes: tuple[Any, Any] = (state.should_stop, state.should_terminate)
    return any(code is not None and code is not False for code in codes)


class Shutdown:
    """What a worker does from SIGTERM to its exit."""

    def __init__(self, worker: Any, heartbeat: Heartbeat) -> None:
        self._worker = worker
        self._heartbeat = heartbeat
        self._pid = os.getpid()

    def start_grace(self, **_: Any) -> None:
        """SIGTERM: running tasks have the grace period to end."""
        self._heartbeat.is_ending = True
        start_native_thread(self._give_up)

    def _give_up(self) -> None:
        """Once the grace period is over, kill the children, and when they are gone release what they ran.

        A worker that runs nothing does not take so long: Celery's loop hangs, as it tries to tell Redis, which is gone,
        that it lives.
        """
        began = at_work = now = time.monotonic()
        while now < began + settings.TASKRUNS_GRACE and now < at_work + LONGEST_END:
            native("time", "sleep")(min(0.2, settings.TASKRUNS_GRACE))
            now = time.monotonic()
            if state.reserved_requests:
                at_work = now
        own_connection()
        identity.giving_up = True
        logger.warning("not ended %.1f s after it was told to: what still runs is killed, and due again", now - began)
        # Without children to kill the process itself must be gone before its runs are due.
        self.leave(after=None if children.kill(self._worker.pool) else AFTER_EXIT)
        os._exit(0)

    def leave(self, after: float | None = None) -> None:
        """Sign off, and release what is still claimed: due again ``after`` seconds."""
        if os.getpid() != self._pid:
            return
        self._heartbeat.stop()
        if identity.worker_id is None:
            return
        try:
            write_rest()
            # Together: the reconciler must not find them running on a dead worker, and count that as a loss.
            was_told_to = self._heartbeat.is_ending or is_told_to_end()
            with transaction.atomic():
                given_up = runs.release(identity.worker_id, after)
                # One that ends by an error may do so because of a message that it was about to begin.
                workers.end([identity.worker_id], lost=not was_told_to)
        except (DatabaseError, InterfaceError):
            logger.exception("could not sign off; the heartbeat's silence will tell")
            return
        if given_up:
            logger.warning("%s running tasks were given up and are due again", given_up)
