"""A worker's sign of life, and what its main process hears from the ledger on that occasion.

One row a worker, written by a thread of its own. A worker that was declared dead kills its children, whose runs others
have by then, and goes on under a new identity.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from pressroom.database.connections import own_connection
from pressroom.database.deferred_writes import write_now, write_rest
from pressroom.execution import settle
from pressroom.process.os_threads import native, start_native_thread
from pressroom.sql import workers
from pressroom.text import carried
from pressroom.worker import children
from pressroom.worker.memory import memory
from pressroom.worker.request import LedgerRequest, identity, living_requests
from pressroom.worker.request_metrics import count_lost

logger = logging.getLogger(__name__)
T = TypeVar("T")

UNKNOWN_AFTER = 5.0
"""Seconds after which a claim is looked for among the requests: a process that is killed has ended by then."""


class Heartbeat:
    """Registers a worker and keeps its row alive until ``stop``."""

    def __init__(self, worker: Any) -> None:
        self.is_ending = False
        """The worker has been told to end: it finishes what it runs."""
        self._worker = worker
        self._pid = os.getpid()
        self._stopping = False
        self._hub: Any = None

    def start(self) -> None:
        """Beat from now on, in a thread of the operating system's."""
        if "gevent" in self._worker.pool_cls.__module__:
            from gevent import get_hub  # type: ignore[import-untyped]  # brings none that mypy finds

            self._hub = get_hub()
        start_native_thread(self._beat)

    def stop(self) -> None:
        """Beat no more."""
        self._stopping = True

    def register(self) -> bool:
        """Take a new identity. False while Postgres does not answer."""
        worker = self._worker
        queues = json.dumps(sorted(worker.app.amqp.queues.consume_from))
        try:
            identity.worker_id = workers.register(carried(worker.hostname), queues, worker.concurrency)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("waiting for Postgres: %s", str(error).strip().splitlines()[0])
            return False
        finally:
            # Not kept: children are forked from here.
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
            is_alive = self._done("no heartbeat", self._give_sign, identity.worker_id)
            if is_alive is False:
                self._start_over()
            elif is_alive:
                # Each by itself: whatever keeps one from being done, this worker lives and says so.
                self._done("nobody is cancelled", self._look_after, identity.worker_id)
                self._done("an end is still to be written", write_rest)

    def _done(self, otherwise: str, step: Callable[..., T], *arguments: Any) -> T | None:
        """What a step of the heartbeat returns, or None where it raised."""
        try:
            return step(*arguments)
        except Exception as error:  # noqa: BLE001 - this thread must not end while the process lives
            logger.warning("%s: %r", otherwise, error)
            connection.close()
            return None

    def _give_sign(self, worker_id: int) -> bool:
        try:
            held = memory([self._pid, *(process.pid for process in children.processes(self._worker.pool) or ())])
        except OSError:
            held = None
        return workers.beat(worker_id, held, self.is_ending)

    def _look_after(self, worker_id: int) -> None:
        unwanted, old = workers.claims(worker_id, UNKNOWN_AFTER)
        self._cancel(unwanted)
        self._lose_unknown(worker_id, old)

    def _cancel(self, claims: set[uuid.UUID]) -> None:
        """End what runs these. Threads cannot be ended: theirs are told, see `progress.is_cancel_requested`."""
        requests = living_requests() if claims else {}
        for claim in claims - identity.cancelled:
            request = requests.get(claim)
            if request is not None and request.worker_pid is not None:
                identity.cancelled.add(claim)
                self._end(request)

    def _lose_unknown(self, worker_id: int, claims: set[uuid.UUID]) -> None:
        """Claims that no request has: each was on its way to Postgres when the process that made it died.

        What was written of that death came before it. A request is known until all under its claim has ended.
        """
        for token in claims - living_requests().keys() if claims else ():

            def write(token: uuid.UUID = token) -> None:
                for run in settle.record_lost_bundle(worker_id, token):
                    logger.error("%s[%s] is run by nobody: it was claimed by a process that died", run.name, run.run_id)
                    transaction.on_commit(partial(count_lost, run, None))

            write_now(write)

    def _end(self, request: LedgerRequest) -> None:
        if children.processes(self._worker.pool) is not None:
            logger.warning("run %s is cancelled: its process is killed", request.claim.run_id)
            with suppress(ProcessLookupError):
                os.kill(request.worker_pid, signal.SIGKILL)
        elif self._hub is not None:
            logger.warning("run %s is cancelled: its greenlet is ended", request.claim.run_id)
            self._hub.loop.run_callback_threadsafe(self._worker.pool.terminate_job, request.worker_pid)

    def _start_over(self) -> None:
        """Declared dead: what the children run is given to others, so they must not go on with it."""
        logger.critical("this worker was declared dead: its children are killed and it registers anew")
        if not children.kill(self._worker.pool):
            # Threads and greenlets cannot be killed; the process can, and its supervisor starts it again.
            os.kill(os.getpid(), signal.SIGKILL)
        while not self.register() and not self._stopping:
            native("time", "sleep")(1.0)
