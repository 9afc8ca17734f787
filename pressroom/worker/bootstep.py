"""The step of a worker's start that registers it in the ledger."""

from __future__ import annotations

import atexit
import os
import time
from typing import Any

from celery import bootsteps, signals
from django.conf import settings

from pressroom.database import readiness
from pressroom.database.connections import pool_connections
from pressroom.monitoring.counters import WorkerMetrics
from pressroom.process import alive_file, user_code
from pressroom.process.os_threads import start_native_thread
from pressroom.worker import children
from pressroom.worker.heartbeat import Heartbeat
from pressroom.worker.memory import share
from pressroom.worker.shutdown import Shutdown, is_asked_to_end


def _before_fork(**_: Any) -> None:
    share()


class LedgerStep(bootsteps.StartStopStep):
    """Registers the worker before its pool takes work, and starts its heartbeat."""

    requires = ("celery.worker.components:Pool",)
    name = "Ledger"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        pool_connections(worker)
        signals.worker_before_create_process.connect(_before_fork, weak=False, dispatch_uid="pressroom.share")

    def start(self, worker: Any) -> None:
        """Wait for the schema, register, start the heartbeat. The consumer starts after this step."""
        self._worker = worker
        user_code.no_exit()
        children.notice_ends(worker.pool)
        heartbeat = Heartbeat(worker)
        shutdown = Shutdown(worker, heartbeat)
        if settings.TASKRUNS_METRICS_PORT:
            WorkerMetrics.current = WorkerMetrics(worker.hostname, worker.app.amqp.queues.consume_from)
            start_native_thread(WorkerMetrics.current.serve(settings.TASKRUNS_METRICS_PORT).serve_forever)
        alive_file.start()
        readiness.wait(self._pause)
        while not heartbeat.register():
            self._pause(1.0)
        alive_file.ready()
        atexit.register(shutdown.leave)
        signals.worker_shutting_down.connect(shutdown.start_grace, weak=False)
        heartbeat.start()

    def _pause(self, seconds: float) -> None:
        if is_asked_to_end():
            # No task has begun, so none has to end. Celery's own shutdown would wait for a pool that no loop drives.
            children.kill(self._worker.pool)
            os._exit(0)
        time.sleep(seconds)

    def stop(self, worker: Any) -> None:
        """Do nothing: the heartbeat goes on while the pool finishes its tasks, and `Shutdown.leave` ends it."""
