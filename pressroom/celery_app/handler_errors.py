"""Celery's signals of tasks, of which a handler can break only itself, whatever it raises.

Celery logs what a handler raises and goes on if it is an Exception. An error beside that class would become the run's.
SystemExit would end a worker with all its slots, because Celery sends some signals in the worker's main process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import signals
from celery.utils.dispatch import Signal

from pressroom.process.user_code import guarded

GUARDED: tuple[Signal, ...] = (
    signals.before_task_publish, signals.after_task_publish, signals.task_sent, signals.task_received,
    signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_retry, signals.task_failure,
    signals.task_internal_error, signals.task_revoked, signals.task_rejected, signals.task_unknown,
)  # fmt: skip
# The stubs lack half of this class.
_Signal: Any = Signal


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
        return guarded("a signal's handler", self.handler, **given)


def install() -> None:
    """Guard the signals. Handlers that are connected already are guarded, too."""
    for signal in GUARDED:
        signal.__class__ = GuardedSignal
