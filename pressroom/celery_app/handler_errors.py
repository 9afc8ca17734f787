"""Celery's signals of tasks, of which a handler can break only itself, whatever it raises.

Celery logs what a handler raises and goes on if it is an Exception. An error beside that class (asyncio's
CancelledError, a project's own BaseException) would become the run's. SystemExit would end a worker with all its
slots, because Celery sends some signals in the worker's main process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import signals
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.utils.dispatch import Signal
from greenlet import GreenletExit  # type: ignore[import-untyped]  # ships no types

GUARDED: tuple[Signal, ...] = (
    signals.before_task_publish, signals.after_task_publish, signals.task_sent, signals.task_received,
    signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_retry, signals.task_failure,
    signals.task_internal_error, signals.task_revoked, signals.task_rejected, signals.task_unknown,
)  # fmt: skip
MEANT = (WorkerShutdown, WorkerTerminate, KeyboardInterrupt, GreenletExit)
"""Exceptions by which a handler, or somebody else while it runs, ends the process or the greenlet."""


_process = {"is_worker": False}
# The stubs lack half of this class.
_Signal: Any = Signal


class HandlerEscapedError(Exception):
    """A handler raised an exception that is no Exception."""


class GuardedSignal(_Signal):  # type: ignore[misc]  # see _Signal
    """A signal whose handlers raise nothing but what Celery logs."""

    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call the handlers. Returns each with its answer, or with the error that it raised."""
        return [(guarded.handler, answer) for guarded, answer in super().send(sender, **named)]

    send_robust = send

    def _live_receivers(self, sender: Any) -> list[_Guarded]:
        return [_Guarded(handler) for handler in super()._live_receivers(sender)]


class _Guarded:
    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler

    def __repr__(self) -> str:
        # Celery logs it.
        return repr(self.handler)

    def __call__(self, **given: Any) -> Any:
        try:
            return self.handler(**given)
        except (Exception, *MEANT):
            raise
        except BaseException as error:
            if _comes_from_outside(error):
                raise
            raise HandlerEscapedError(f"{type(error).__name__} in a signal's handler") from error


def _comes_from_outside(error: BaseException) -> bool:
    """Return whether the error may be meant for the process or its greenlet: a time limit, or a server's SIGTERM."""
    if isinstance(error, SystemExit):
        # A worker ends by other means. A web server's SIGTERM may raise this in the middle of a handler.
        return not _process["is_worker"]
    return type(error).__module__.partition(".")[0] == "gevent"


def mark_as_worker() -> None:
    """Say that this process is a worker's. Its children inherit that."""
    _process["is_worker"] = True


def install() -> None:
    """Guard the signals. Handlers that are connected already are guarded, too."""
    for signal in GUARDED:
        signal.__class__ = GuardedSignal
