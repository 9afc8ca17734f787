"""A worker's main process: its identity and heartbeat.

One heartbeat row a worker, from a thread of its own; a worker that was declared dead kills its children, whose
runs others have by then, and goes on under a new identity.
"""

from __future__ import annotations

import atexit
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

from celery import bootsteps, signals
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from app import schema
from app.taskruns import alive, heartbeats, ledger, terminal
from app.taskruns.counted import count_lost
from app.taskruns.databases import own_connection, pool_connections
from app.taskruns.memory import memory, share
from app.taskruns.metrics import WorkerMetrics
from app.taskruns.native import native, start_native_thread
from app.taskruns.request import LedgerRequest, identity, living_requests, write_now, write_rest
from app.text import carried

logger = logging.getLogger(__name__)
T = TypeVar("T")


AFTER_EXIT = 1.0
"""Seconds between the release of what threads and greenlets ran and its being due: the process exits meanwhile."""

UNKNOWN_AFTER = 5.0
"""Seconds after which a claim is looked for among the requests: a process that is killed has ended by then."""

LONGEST_END = 10.0
"""Seconds that a worker which runs nothing has to end by itself."""


def _is_told(code: Any) -> bool:
    """Whether Celery was told to end, with an exit code, which may be 0."""
    return code is not None and code is not False


def _before_fork(**_: Any) -> None:
    share()


class LedgerStep(bootsteps.StartStopStep):
    """Registers the worker before its pool takes work, and keeps its heart beating."""

    requires = ("celery.worker.components:Pool",)
    name = "Ledger"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        pool_connections(worker)
        signals.worker_before_create_process.connect(_before_fork, weak=False, dispatch_uid="pressroom.share")
        self._stopping = False
        self._grace = False
        self._pid = os.getpid()
        self._hub: Any = None

    def start(self, worker: Any) -> None:
        """Wait for the schema, register, start the heartbeat. The consumer starts after this step."""
        self._worker = worker
        if settings.METRICS_PORT:
            WorkerMetrics.current = WorkerMetrics(worker.hostname, worker.app.amqp.queues.consume_from)
            start_native_thread(WorkerMetrics.current.serve(settings.METRICS_PORT).serve_forever)
        if "gevent" in worker.pool_cls.__module__:
            from gevent import get_hub  # type: ignore[import-untyped]  # brings none that mypy finds

            self._hub = get_hub()
        alive.start()
        schema.wait(self._pause)
        while not self._register():
            self._pause(1.0)
        alive.ready()
        atexit.register(self._leave)
        signals.worker_shutting_down.connect(self._start_grace, weak=False)
        start_native_thread(self._beat)

    def _pause(self, seconds: float) -> None:
        if _is_told(state.should_stop) or _is_told(state.should_terminate):
            # Nothing has begun, so nothing has to end; Celery's own way would wait for a pool that no loop drives.
            self._kill_children()
            os._exit(0)
        time.sleep(seconds)

    def _register(self) -> bool:
        worker = self._worker
        queues = json.dumps(sorted(worker.app.amqp.queues.consume_from))
        try:
            identity.worker_id = heartbeats.register(carried(worker.hostname), queues, worker.concurrency)
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
            held = memory([self._pid, *(process.pid for process in self._processes() or ())])
        except OSError:
            held = None
        return heartbeats.beat(worker_id, held, self._grace)

    def _look_after(self, worker_id: int) -> None:
        unwanted, old = heartbeats.claims(worker_id, UNKNOWN_AFTER)
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
                for run in terminal.lose_bundle(worker_id, token):
                    logger.error("%s[%s] is run by nobody: it was claimed by a process that died", run.name, run.run_id)
                    transaction.on_commit(partial(count_lost, run, None))

            write_now(write)

    def _end(self, request: LedgerRequest) -> None:
        if self._processes() is not None:
            logger.warning("run %s is cancelled: its process is killed", request.claim.run_id)
            with suppress(ProcessLookupError):
                os.kill(request.worker_pid, signal.SIGKILL)
        elif self._hub is not None:
            logger.warning("run %s is cancelled: its greenlet is ended", request.claim.run_id)
            self._hub.loop.run_callback_threadsafe(self._worker.pool.terminate_job, request.worker_pid)

    def _processes(self) -> list[Any] | None:
        """The pool's child processes; None for a pool that has none."""
        processes = getattr(getattr(self._worker.pool, "_pool", None), "_pool", None)
        return processes if isinstance(processes, list) else None

    def _start_over(self) -> None:
        """Declared dead: what the children run is given to others, so they must not go on with it."""
        logger.critical("this worker was declared dead: its children are killed and it registers anew")
        if not self._kill_children():
            # Threads and greenlets cannot be killed; the process can, and its supervisor starts it again.
            os.kill(os.getpid(), signal.SIGKILL)
        while not self._register() and not self._stopping:
            native("time", "sleep")(1.0)

    def _start_grace(self, **_: Any) -> None:
        """SIGTERM: running tasks have the grace period to end."""
        self._grace = True
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
        self._leave(after=None if self._kill_children() else AFTER_EXIT)
        os._exit(0)

    def _kill_children(self) -> bool:
        """Kill the pool's processes and wait until they are gone. False for a pool that has none."""
        processes = self._processes()
        if processes is None:
            return False
        pids = [process.pid for process in processes]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ChildProcessError):
                # Not reaped: the pool does that, and learns from it that it needs new ones.
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return True

    def stop(self, worker: Any) -> None:
        """The heartbeat goes on while the pool finishes its tasks; `_leave` ends it."""

    def _leave(self, after: float | None = None) -> None:
        if os.getpid() != self._pid:
            return
        self._stopping = True
        if identity.worker_id is None:
            return
        try:
            write_rest()
            # Together: the reconciler must not find them running on a dead worker, and count that as a loss.
            was_told_to = self._grace or _is_told(state.should_stop) or _is_told(state.should_terminate)
            with transaction.atomic():
                given_up = ledger.release(identity.worker_id, after)
                # One that ends by an error may do so because of a message that it was about to begin.
                heartbeats.end([identity.worker_id], lost=not was_told_to)
        except (DatabaseError, InterfaceError):
            logger.exception("could not sign off; the heartbeat's silence will tell")
            return
        if given_up:
            logger.warning("%s running tasks were given up and are due again", given_up)
