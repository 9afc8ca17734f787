"""The base class of every task: plain Celery's, with its tracer inside the ledger's claim and finish."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import Task
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Reject

from pressroom import context
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import attempt
from pressroom.execution.backlog import follow
from pressroom.execution.end_hooks import End

logger = logging.getLogger(__name__)

HOOKS = ("on_success", "on_failure", "on_retry", "after_return")
"""What a task's class may do once its body has ended."""


def in_ledger(task: Any, tracer: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer for runs of the ledger; eager calls and messages of plain Celery go straight to Celery's."""

    @wraps(tracer)
    def trace(uuid: str, args: Any, kwargs: Any, request: dict[str, Any] | None = None) -> Any:
        if not request or HEADER not in request or request.get("is_eager"):
            return tracer(uuid, args, kwargs, request)
        began = time.monotonic()
        outcome = attempt.execute(task, tracer, uuid, args, kwargs, request)
        return follow(task, request, outcome, began)

    return trace


def _as_body(call: Callable[..., Any]) -> Callable[..., Any]:
    """A class's ``__call__``, whatever it does: from its start to its end it is the body of the run."""

    @wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it is set as that
        running = context.current()
        if running is None:
            return call(self, *args, **kwargs)
        return running.run_body(self, lambda: call(self, *args, **kwargs))

    __call__.is_ours = True  # type: ignore[attr-defined]
    return __call__


def _alone(name: str, hook: Any) -> Callable[..., Any]:
    """A class's hook that can break nothing but itself: the run has its verdict when it is called."""

    def alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A function, or whatever else stands in a class: a static method, a partial.
        bound = hook.__get__(self, type(self)) if hasattr(hook, "__get__") else hook
        running = context.current()
        if running is None or not running.finishing:
            return bound(*args, **kwargs)
        try:
            return bound(*args, **kwargs)
        except Reject:
            raise
        except Exception:
            logger.exception("%s[%s] its %s raised an error", self.name, running.claim.run_id, name)

    alone.is_ours = True  # type: ignore[attr-defined]
    return alone


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

    on_end: Callable[[End], object] | None = None
    """Called with the `End` of each call, in the transaction that writes it, however it ends: for what waits for it."""
    owner_may_cancel = False
    """Whether who called it may cancel it: what they have ordered, as against what the site does by itself."""
    schedulable = False
    """Whether an admin may put it on a schedule, with arguments of theirs. Those of the code's schedules need not."""

    Request = "pressroom.worker.request:LedgerRequest"

    celery_tracer: Callable[..., Any] | None = None
    """Celery's own, without the ledger's claim and finish."""
    _tracer: Callable[..., Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take in what the class brings along, or one that it is mixed with."""
        super().__init_subclass__(**kwargs)
        if not hasattr(cls.__call__, "is_ours"):
            cls.__call__ = _as_body(cls.__call__)  # type: ignore[method-assign]
        for name in HOOKS:
            hook = inspect.getattr_static(cls, name)
            if not hasattr(hook, "is_ours") and hook is not inspect.getattr_static(Task, name):
                setattr(cls, name, _alone(name, hook))

    @property
    def __trace__(self) -> Callable[..., Any] | None:
        return self._tracer

    @__trace__.setter
    def __trace__(self, tracer: Callable[..., Any] | None) -> None:
        self.celery_tracer = tracer
        self._tracer = tracer if tracer is None else in_ledger(self, tracer)

    @_as_body
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as Celery's; the ledger notes when the body of a run has ended."""
        return super().__call__(*args, **kwargs)

    def on_replace(self, sig: Any) -> Any:
        """As Celery's; what takes the task's place is stored when the task is finished, not before."""
        running = context.current()
        if running is not None and running.task is self:
            running.end_body()
        return super().on_replace(sig)
