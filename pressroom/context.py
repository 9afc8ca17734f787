"""Which run the present thread or greenlet executes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pressroom.execution.execution import Execution

_current: ContextVar[Execution | None] = ContextVar("taskruns_execution", default=None)


@contextmanager
def executing(running: Execution) -> Iterator[None]:
    """This thread executes the run meanwhile."""
    reset = _current.set(running)
    try:
        yield
    finally:
        _current.reset(reset)


def current() -> Execution | None:
    """The run that this thread executes, or None outside of one."""
    return _current.get()


def current_run_id() -> uuid.UUID | None:
    """The run's key, the same in every attempt: an ``Idempotency-Key`` for the world outside. None outside a run."""
    running = _current.get()
    return running.claim.run_id if running is not None else None
