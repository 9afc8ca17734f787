"""The base class of every task. Puts the ledger's claim and finish around Celery's tracer."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from celery import Task
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Reject

from pressroom import context
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import attempt
from pressroom.execution.backlog import follow
from pressroom.execution.eager_results import AwaitableEagerResult
from pressroom.execution.end_hooks import End

logger = logging.getLogger(__name__)

HOOKS = ("on_success", "on_failure", "on_retry", "after_return")
"""The methods of a task's class that Celery calls after the body."""


def in_ledger(task: Any, tracer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a tracer that executes runs of the ledger.

    Passes eager calls and messages of plain Celery to ``tracer`` as they are.
    """

    @wraps(tracer)
    def trace(uuid: str, args: Any, kwargs: Any, request: dict[str, Any] | None = None) -> Any:
        if not request or HEADER not in request or request.get("is_eager"):
            return tracer(uuid, args, kwargs, request)
        began = time.monotonic()
        traced = attempt.execute(task, tracer, uuid, args, kwargs, request)
        return follow(task, request, traced, began)

    return trace


def _as_body(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make all of a class's ``__call__`` the body of the run, whatever it does."""

    @wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it becomes a class's `__call__`
        running = context.current()
        if running is None:
            return call(self, *args, **kwargs)
        return running.run_body(self, lambda: call(self, *args, **kwargs))

    __call__.is_ours = True  # type: ignore[attr-defined]
    return __call__


def _alone(name: str, hook: Any) -> Callable[..., Any]:
    """Wrap a hook of a class so that its errors are only logged: the run has its outcome when Celery calls the hook."""

    def alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The hook may be a function, or another attribute of the class: a static method, a partial.
        bound = hook.__get__(self, type(self)) if hasattr(hook, "__get__") else hook
        running = context.current()
        if running is None or not running.finishing:
            return bound(*args, **kwargs)
        try:
            return bound(*args, **kwargs)
        except Reject:
            raise
        except Exception:
            logger.exception("%s[%s] %s raised an error", self.name, running.claim.run_id, name)

    alone.is_ours = True  # type: ignore[attr-defined]
    return alone


class LedgerTask(DjangoTask):  # type: ignore[type-arg]  # generic in the stubs only
    """A Celery task whose calls are rows of the ledger."""

    atomic = False
    """Whether one transaction holds the body's database work and the end of the run: both happen once, or neither."""
    bundle = 1
    """How many of its waiting runs a slot claims and ends at once in a backlog, if they take milliseconds.

    With 1 the slot claims the next run when the last has ended. With 0 every run comes as a message.
    """
    durable = True
    """False for cheap work that may be lost. Plain calls then go straight to Redis after the commit, without a row."""

    concurrency: int | None = None
    """How many of its runs execute at once, over all workers. None for no limit."""
    rate: str | None = None
    """How many of its runs start in a time, over all workers: ``"100/m"``, ``"5/10s"``. None for no limit."""
    key: str | Callable[..., Any] | None = None
    """By what the limits count: an argument, or what a function of the arguments returns. None: all runs together."""

    unique: str | float | None = None
    """``"while waiting"``, ``"until done"`` or a number of seconds: how long a call stands for the same ones after it.

    Those return its result and store nothing.
    """
    unique_by: Sequence[str] | None = None
    """Names of the arguments by which calls are the same; None for all."""

    on_end: Callable[[End], object] | None = None
    """Called with the `End` of each call, however it ends, in the transaction that writes the end."""
    owner_may_cancel = False
    """Whether the caller may cancel it. For work that a user has ordered, not for the site's own."""
    schedulable = False
    """Whether an admin may put it on a schedule, with any arguments. Schedules in the code do not need it."""

    Request = "pressroom.worker.request:LedgerRequest"

    celery_tracer: Callable[..., Any] | None = None
    """Celery's own tracer, without the ledger's claim and finish."""
    _tracer: Callable[..., Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap ``__call__`` and the hooks that the class, or a class that it is mixed with, defines."""
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
        """Run the task in this process, as Celery's does. The ledger notes when the body of a run has ended."""
        return super().__call__(*args, **kwargs)

    def apply(self, *args: Any, **options: Any) -> Any:
        """Run the task at once, as Celery's does. Returns its result, which async code may await."""
        return AwaitableEagerResult.of(super().apply(*args, **options))

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task from async code, as ``delay()`` does: see `aapply_async`."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Call the task from async code, as ``apply_async()`` does. Returns its result, which async code may await.

        The call is stored in the thread that runs this context's sync code: in that thread's open transaction, or, if
        there is none, at once.
        """
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    def on_replace(self, sig: Any) -> Any:
        """Replace the task, as Celery's does. The replacement is stored with the finish of the task."""
        running = context.current()
        if running is not None and running.task is self:
            running.end_body()
        return super().on_replace(sig)
