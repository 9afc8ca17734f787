"""Which run the current thread or greenlet executes."""

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
    """Make ``running`` the current execution of this thread within the block."""
    reset = _current.set(running)
    try:
        yield
    finally:
        _current.reset(reset)


def current() -> Execution | None:
    """Return the execution of the run that this thread executes, or None outside a run."""
    return _current.get()


def current_run_id() -> uuid.UUID | None:
    """Return the key of the current run, or None outside a run.

    It is the same in every attempt, so you can send it to other systems as an ``Idempotency-Key``.
    """
    running = _current.get()
    return running.claim.run_id if running is not None else None
