"""The heartbeat of a worker, and the checks that its main process makes with each beat.

A thread of its own writes one row per worker. A worker that was declared dead kills its children, because other workers
have their runs by then, and registers under a new identity.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from pressroom.database.connections import own_connection
from pressroom.database.deferred_writes import write_now, write_rest
from pressroom.enqueue.limits import sync
from pressroom.execution import settle
from pressroom.process.os_threads import native, start_native_thread
from pressroom.process.place import is_gone, own_place
from pressroom.sql import workers
from pressroom.text import carried
from pressroom.worker import children
from pressroom.worker.memory import memory
from pressroom.worker.request import LedgerRequest, identity, living_requests
from pressroom.worker.request_metrics import count_lost

logger = logging.getLogger(__name__)
T = TypeVar("T")

SYNC_EVERY = 60.0
"""Seconds between two times that the worker writes the limits of its tasks, some of which the relay may not know."""
UNKNOWN_AFTER = 5.0
"""Seconds after which a claim must belong to a request. A process that was killed has ended by then."""


class Heartbeat:
    """Registers a worker and keeps its row alive until ``stop``."""

    def __init__(self, worker: Any) -> None:
        self.is_ending = False
        """Whether the worker is shutting down and only finishes what it runs."""
        self._worker = worker
        self._pid = os.getpid()
        self._stopping = False
        self._hub: Any = None
        self._synced_at = float("-inf")

    def start(self) -> None:
        """Start the heartbeat in a thread of the operating system."""
        if "gevent" in self._worker.pool_cls.__module__:
            from gevent import get_hub  # type: ignore[import-untyped]  # ships no types that mypy finds

            self._hub = get_hub()
        start_native_thread(self._beat)

    def stop(self) -> None:
        """End the heartbeat."""
        self._stopping = True

    def register(self) -> bool:
        """Take a new identity. Returns False if Postgres does not answer."""
        worker = self._worker
        queues = json.dumps(sorted(worker.app.amqp.queues.consume_from))
        try:
            own = own_place()
            # Its predecessor may have been killed: its runs need not wait until it has been silent for long.
            if gone := [other.id for other in workers.alive() if is_gone(other.place, own)]:
                logger.warning("workers %s are dead: their processes have ended", gone)
                workers.end(gone, lost=True)
            identity.worker_id = workers.register(carried(worker.hostname), queues, worker.concurrency, own)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("waiting for Postgres: %s", str(error).strip().splitlines()[0])
            return False
        finally:
            # Children are forked from this process and must not inherit a connection.
            connection.close()
        logger.info("worker %s is number %s in the ledger", worker.hostname, identity.worker_id)
        return True

    def _beat(self) -> None:
        own_connection()
        while True:
            native("time", "sleep")(settings.TASKRUNS_HEARTBEAT)
            if self._stopping:
                return
            assert identity.worker_id is not None
            is_alive = self._done("could not write the heartbeat", self._give_sign, identity.worker_id)
            if is_alive is False:
                self._start_over()
            elif is_alive:
                # A step that fails must not stop the other, nor the heartbeat.
                self._done("could not look for cancelled and lost claims", self._look_after, identity.worker_id)
                self._done("could not write a deferred end", write_rest)
                self._done("could not write the limits of its tasks", self._sync_limits)

    def _done(self, failure: str, step: Callable[..., T], *arguments: Any) -> T | None:
        """Run a step of the heartbeat and return its result. If it raises, logs ``failure`` and returns None."""
        try:
            return step(*arguments)
        except Exception as error:  # noqa: BLE001 - this thread must not end while the process lives
            logger.warning("%s: %r", failure, error)
            connection.close()
            return None

    def _give_sign(self, worker_id: int) -> bool:
        try:
            held = memory([self._pid, *(process.pid for process in children.processes(self._worker.pool) or ())])
        except OSError:
            held = None
        return workers.beat(worker_id, held, self.is_ending)

    def _sync_limits(self) -> None:
        now = time.monotonic()
        if now - self._synced_at >= SYNC_EVERY:
            sync(self._worker.app.tasks.values())
            self._synced_at = now

    def _look_after(self, worker_id: int) -> None:
        unwanted, old = workers.claims(worker_id, UNKNOWN_AFTER)
        self._cancel(unwanted)
        self._lose_unknown(worker_id, old)

    def _cancel(self, claims: set[uuid.UUID]) -> None:
        """End what runs under these claims. A task in a thread must ask: see `progress.is_cancel_requested`."""
        requests = living_requests() if claims else {}
        for claim in claims - identity.cancelled:
            request = requests.get(claim)
            if request is not None and request.worker_pid is not None:
                identity.cancelled.add(claim)
                self._end(request)

    def _lose_unknown(self, worker_id: int, claims: set[uuid.UUID]) -> None:
        """Record the loss of claims that belong to no request.

        The process that made the claim died before the claim reached Postgres, so the loss that was recorded for the
        dead process came too early. A request is known until all runs under its claim have ended.
        """
        for token in claims - living_requests().keys() if claims else ():

            def write(token: uuid.UUID = token) -> None:
                for run in settle.record_lost_bundle(worker_id, token):
                    logger.error("%s[%s] is lost: the process that claimed it died", run.name, run.run_id)
                    transaction.on_commit(partial(count_lost, run, None))

            write_now(write)

    def _end(self, request: LedgerRequest) -> None:
        if children.processes(self._worker.pool) is not None:
            logger.warning("run %s is cancelled: killing its process", request.claim.run_id)
            with suppress(ProcessLookupError):
                os.kill(request.worker_pid, signal.SIGKILL)
        elif self._hub is not None:
            logger.warning("run %s is cancelled: ending its greenlet", request.claim.run_id)
            self._hub.loop.run_callback_threadsafe(self._worker.pool.terminate_job, request.worker_pid)

    def _start_over(self) -> None:
        """Kill the children, whose runs other workers get after this one was declared dead, and register anew."""
        logger.critical("this worker was declared dead: it kills its children and registers anew")
        if not children.kill(self._worker.pool):
            # Threads and greenlets cannot be killed, but the process can. Its supervisor starts it again.
            os.kill(os.getpid(), signal.SIGKILL)
        while not self.register() and not self._stopping:
            native("time", "sleep")(1.0)
