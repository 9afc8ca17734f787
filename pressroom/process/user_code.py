"""Calls of a project's own functions, which may raise anything, within the library's processes.

An error beside Exception (asyncio's CancelledError, a project's own BaseException) passes every `except Exception`, and
would end a relay, a beat or a worker with all its slots.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from itertools import pairwise
from traceback import walk_tb
from types import FrameType
from typing import TypeVar

from celery.exceptions import WorkerShutdown, WorkerTerminate
from greenlet import GreenletExit  # type: ignore[import-untyped]  # ships no types

T = TypeVar("T")
MEANT = (WorkerShutdown, WorkerTerminate, KeyboardInterrupt, GreenletExit)
"""Exceptions by which a function, or somebody else while it runs, ends the process or the greenlet."""

_process = {"ends_otherwise": False}


class EscapedError(Exception):
    """A project's function raised an exception that is no Exception."""


def guarded(what: str, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """Call a project's function, ``what`` in words. Raises its Exceptions, and EscapedError for most other errors."""
    try:
        return function(*args, **kwargs)
    except (Exception, *MEANT):
        raise
    except BaseException as error:
        if _comes_from_outside(error):
            raise
        raise EscapedError(f"{type(error).__name__} in {what}") from error


def _comes_from_outside(error: BaseException) -> bool:
    """Return whether the error may be meant for the process or its greenlet: a time limit, or a server's SIGTERM."""
    if isinstance(error, SystemExit):
        return not _process["ends_otherwise"] and _was_raised_by_a_signal(error)
    return type(error).__module__.partition(".")[0] == "gevent"


def _was_raised_by_a_signal(error: BaseException) -> bool:
    """Return whether a handler of a signal raised it in the middle of a function, as that of a web server may.

    Python passes a handler the frame that the signal interrupted. In the traceback that is the frame before the
    handler's. Only the main thread handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return any(_was_given(called, interrupted) for interrupted, called in pairwise(frames))


def _was_given(called: FrameType, value: object) -> bool:
    """Return whether a value is one of the positional arguments of a frame's function."""
    names, rest, _, found = inspect.getargvalues(called)
    return any(one is value for one in (*map(found.get, names), *(found.get(rest or "") or ())))


def no_exit() -> None:
    """Say that no signal raises SystemExit in this process: a worker and a relay end by other means.

    Child processes inherit that.
    """
    _process["ends_otherwise"] = True
