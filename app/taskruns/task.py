"""The base class of every task: plain Celery's, with its tracer inside the ledger's claim and finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery.contrib.django.task import DjangoTask

from app.taskruns import execution
from app.taskruns.bundle import follow
from app.taskruns.messages import HEADER


def in_ledger(task: Any, tracer: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer for runs of the ledger; eager calls and messages of plain Celery go straight to Celery's."""

    @wraps(tracer)
    def trace(uuid: str, args: Any, kwargs: Any, request: dict[str, Any] | None = None) -> Any:
        if not request or HEADER not in request or request.get("is_eager"):
            return tracer(uuid, args, kwargs, request)
        began = time.monotonic()
        outcome = execution.execute(task, tracer, uuid, args, kwargs, request)
        return follow(task, request, outcome, began)

    return trace


class LedgerTask(DjangoTask):  # type: ignore[type-arg]  # generic in the stubs only
    """A Celery task whose calls are rows of the ledger."""

    atomic = False
    """Whether the body's work in the database and the end of the run are one transaction: both or neither, once."""
    bundle = 1
    """How many of its waiting calls a slot claims at once in a backlog, and ends together, if they take milliseconds.

    With 1 none is claimed before the last has ended. With 0 each comes as a message.
    """
    durable = True
    """False for cheap work that may be lost: its plain calls go straight to Redis after the commit, with no row."""

    Request = "app.taskruns.request:LedgerRequest"

    celery_tracer: Callable[..., Any] | None = None
    """Celery's own, without the ledger's claim and finish."""
    _tracer: Callable[..., Any] | None = None

    @property
    def __trace__(self) -> Callable[..., Any] | None:
        return self._tracer

    @__trace__.setter
    def __trace__(self, tracer: Callable[..., Any] | None) -> None:
        self.celery_tracer = tracer
        self._tracer = tracer if tracer is None else in_ledger(self, tracer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as Celery's; the ledger notes when the body of a run has ended."""
        running = execution.current()
        if running is None:
            return super().__call__(*args, **kwargs)
        return running.run_body(self, lambda: super(LedgerTask, self).__call__(*args, **kwargs))

    def on_replace(self, sig: Any) -> Any:
        """As Celery's; what takes the task's place is stored when the task is finished, not before."""
        running = execution.current()
        if running is not None and running.task is self:
            running.end_body()
        return super().on_replace(sig)
