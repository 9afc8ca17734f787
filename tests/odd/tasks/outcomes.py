"""Tasks that return, raise and do odd things in their bodies; `DEEDS` and `ERRORS` are what there is, by name."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import shared_task
from celery.exceptions import Ignore, Reject, Retry
from django.db import DatabaseError, OperationalError, connection, transaction

from tests.odd.tasks.basic import effect
from tests.odd.values import Refusing, make


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class TextIsNoText(Exception):
    def __str__(self) -> Any:
        return 1  # noqa: PLE0307 - that is what is odd

    __repr__ = __str__


class NotPickled(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("is not pickled")


class TwoArguments(Exception):
    """Not made again from its args."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__()
        self.one, self.two = one, two


class FromBase(BaseException):
    pass


class Endless(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RecursionError("no args")


class NoClass(Exception):
    """Its class says that it is another."""

    __module__ = "no.such.module"
    __qualname__ = "Nowhere.At.All"


def _recursion(depth: int = 0) -> int:
    return _recursion(depth + 1) + 1


def _memory() -> NoReturn:
    raise MemoryError


def _caused() -> NoReturn:
    error = ValueError("caused by itself")
    error.__cause__ = error.__context__ = error
    raise error


def _chain_of_causes() -> NoReturn:
    error: Exception | None = None
    for level in range(2000):
        following = ValueError(level)
        following.__cause__, error = error, following
    assert error is not None
    raise error


def _group() -> NoReturn:
    error: Exception = ValueError("inner")
    for _ in range(200):
        error = ExceptionGroup("around", [error])
    raise error


def _noted() -> NoReturn:
    error = ValueError("with notes")
    error.add_note("\ud83d\x00")
    raise error


def _raiser(error: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def raise_it() -> NoReturn:
        raise error()

    return raise_it


ERRORS: dict[str, Callable[[], Any]] = {
    "ValueError": _raiser(lambda: ValueError("plain")),
    "ValueError surrogate": _raiser(lambda: ValueError(os.fsdecode(b"caf\xe9.txt"))),
    "ValueError nul": _raiser(lambda: ValueError("a\x00b")),
    "ValueError long": _raiser(lambda: ValueError("x" * 3_000_000)),
    "ValueError of itself": _caused,
    "ValueError of 2000": _chain_of_causes,
    "ValueError noted": _noted,
    "ValueError of bytes": _raiser(lambda: ValueError(b"\xff", {1}, object())),
    "ValueError nan": _raiser(lambda: ValueError(float("nan"), float("inf"))),
    "ValueError deep": _raiser(lambda: ValueError(make(["deep", "list", 3000]))),
    "ValueError circular": _raiser(lambda: ValueError(make(["circular", "dict"]))),
    "ValueError refusing": _raiser(lambda: ValueError(Refusing())),
    "ValueError control": _raiser(lambda: ValueError("\x1b[31m\x08\x7f\u202e")),
    "UnicodeDecodeError": b"\xff".decode,
    "UnicodeEncodeError": "\ud83d".encode,
    "KeyError": _raiser(lambda: KeyError(("a", "tuple"))),
    "StopIteration": _raiser(StopIteration),
    "NoText": _raiser(NoText),
    "TextIsNoText": _raiser(TextIsNoText),
    "NotPickled": _raiser(NotPickled),
    "TwoArguments": _raiser(lambda: TwoArguments(1, 2)),
    "Endless": _raiser(Endless),
    "NoClass": _raiser(NoClass),
    "ExceptionGroup": _group,
    "RecursionError": _recursion,
    "MemoryError": _memory,
    "FromBase": _raiser(FromBase),
    "CancelledError": _raiser(asyncio.CancelledError),
    "GeneratorExit": _raiser(GeneratorExit),
    "BaseExceptionGroup": _raiser(lambda: BaseExceptionGroup("group", [FromBase()])),
    "ZeroDivisionError": lambda: 1 // 0,
    "OSError": _raiser(lambda: OSError(2, "no file", os.fsdecode(b"\xff"))),
    "ConnectionError": _raiser(ConnectionError),
    "OperationalError": _raiser(lambda: OperationalError("not the connection's")),
    "TimeoutError": _raiser(TimeoutError),
    "WorkerLostError": _raiser(lambda: WorkerLostError("a task's own")),
    "SoftTimeLimitExceeded": _raiser(SoftTimeLimitExceeded),
    "TimeLimitExceeded": _raiser(lambda: TimeLimitExceeded(1)),
}  # fmt: skip
"""Raised as the class that the name begins with."""

ENDINGS: dict[str, Callable[[], Any]] = {
    "SystemExit": lambda: sys.exit(0),
    "SystemExit 1": lambda: sys.exit(1),
    "SystemExit text": lambda: sys.exit("\ud83d"),
    "KeyboardInterrupt": _raiser(KeyboardInterrupt),
    "_exit 0": lambda: os._exit(0),
    "_exit 1": lambda: os._exit(1),
    "_exit 155": lambda: os._exit(155),
    "abort": os.abort,
}
"""They end the process."""


def _swallowed() -> None:
    """A database error that the code goes on after."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
    except DatabaseError:
        pass


def _close() -> None:
    connection.close()


def _open() -> None:
    transaction.set_autocommit(False)


def _roll_back() -> None:
    connection.set_rollback(True)


def _cut() -> None:
    with suppress(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def _enter() -> None:
    transaction.atomic().__enter__()


def _after_commit() -> None:
    transaction.on_commit(lambda: 1 // 0)


def _settings() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION statement_timeout = '1ms'; SET SESSION default_transaction_read_only = on")


def _search_path() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION search_path = nowhere")


def _close_output() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


DEEDS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None, "swallow": _swallowed, "close": _close, "leave open": _open, "roll back": _roll_back,
    "cut": _cut, "enter atomic": _enter, "fail after commit": _after_commit,
    "set session": _settings, "set path": _search_path, "raise": _raiser(lambda: LookupError("of users' code")),
    "raise surrogate": _raiser(lambda: LookupError("\ud83d\x00")), "raise no text": _raiser(NoText),
    "raise base": _raiser(FromBase), "raise memory": _memory, "recurse": _recursion, "close output": _close_output,
    "raise exit": lambda: sys.exit(3), "raise cancelled": _raiser(asyncio.CancelledError),
    "raise ignore": _raiser(Ignore), "raise reject": _raiser(Reject), "raise retry": _raiser(Retry),
}  # fmt: skip
"""What users' code does at the wrong place: in a body, a hook, a handler of signals."""


def _returns(call: str, described: list[Any]) -> Any:
    effect(call, "odd")
    return make(described)


def _raises(call: str, name: str) -> None:
    effect(call, "odd")
    (ERRORS.get(name) or ENDINGS[name])()


def _does(call: str, name: str) -> None:
    effect(call, "odd")
    DEEDS[name]()


AGAIN: dict[str, Any] = {
    "autoretry_for": (Exception,), "max_retries": 1, "default_retry_delay": 0, "retry_backoff": False,
    "retry_jitter": False,
}  # fmt: skip
WAYS = {"atomic": True, "free": False}
RETURNS = {way: shared_task(name=f"odd.returns.{way}", atomic=atomic)(_returns) for way, atomic in WAYS.items()}
RAISES = {way: shared_task(name=f"odd.raises.{way}", atomic=atomic)(_raises) for way, atomic in WAYS.items()}
RAISES |= {
    f"{way} again": shared_task(name=f"odd.raises.{way}.again", atomic=atomic, **AGAIN)(_raises)
    for way, atomic in WAYS.items()
}
DOES = {way: shared_task(name=f"odd.does.{way}", atomic=atomic)(_does) for way, atomic in WAYS.items()}


RETRIES: dict[str, dict[str, Any]] = {
    "bare": {}, "exc": {"exc": ValueError("\ud83d")}, "no text": {"exc": NoText()}, "past": {"countdown": -5},
    "nan": {"countdown": float("nan")}, "inf": {"countdown": float("inf")}, "text": {"countdown": "soon"},
    "set": {"args": ({1},)}, "deep": {"args": (make(["deep", "list", 500]),)}, "queue": {"queue": "no-such-queue"},
    "priority": {"priority": 40_000}, "eta": {"eta": "tomorrow"}, "expires": {"expires": -1},
    "never": {"max_retries": 0}, "forever": {"max_retries": -1}, "limit text": {"max_retries": "many"},
    "throw": {"throw": False}, "id": {"task_id": "another"}, "kwargs": {"kwargs": {"no": "such"}},
    "headers": {"headers": {"odd": {1}}}, "class": {"exc": ValueError}, "not an error": {"exc": "text"},
    "serializer": {"serializer": "pickle"}, "link": {"link": "no signature"}, "limits": {"time_limit": -1},
}  # fmt: skip


@shared_task(name="odd.retries", bind=True, max_retries=1, default_retry_delay=0)
def retries(self: Any, call: str, name: str) -> None:
    options = dict(RETRIES[name])
    if self.request.retries > 1:
        return
    raise self.retry(**{"countdown": 0, **options})


CELERYS: dict[str, Callable[[], Any]] = {
    "ignore": _raiser(Ignore), "ignore odd": _raiser(lambda: Ignore("\ud83d", {1})),
    "reject": _raiser(lambda: Reject("a reason", requeue=False)), "reject odd": _raiser(lambda: Reject("\ud83d")),
    "reject again": _raiser(lambda: Reject("once more", requeue=True)),
    "reject class": _raiser(lambda: Reject({1}, requeue="no")),
    "retry": _raiser(Retry), "retry odd": _raiser(lambda: Retry("\ud83d", exc=NoText())),
    "retry when": _raiser(lambda: Retry("later", exc=None, when="tomorrow")),
}  # fmt: skip


@shared_task(name="odd.celerys")
def celerys(call: str, name: str) -> None:
    CELERYS[name]()


REPLACEMENTS: dict[str, Callable[[], Any]] = {}


@shared_task(name="odd.updates", bind=True)
def updates(self: Any, call: str, state: Any, described: list[Any]) -> None:
    """A state and meta of its own."""
    self.update_state(state=make(state), meta=make(described))
