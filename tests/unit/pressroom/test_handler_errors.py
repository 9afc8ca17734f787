"""A handler of a task's signal breaks only itself. What ends a process on purpose still does."""

import asyncio
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps

import pytest
from celery import signals
from celery.exceptions import WorkerShutdown, WorkerTerminate
from greenlet import GreenletExit  # type: ignore[import-untyped]  # ships no types

from pressroom.celery_app import handler_errors
from pressroom.process import user_code


class OfAProject(BaseException):
    pass


def sent(error: BaseException) -> list[object]:
    """Send a signal to a handler that raises ``error``. Returns what the handlers answered."""

    def handle(**given: object) -> None:
        raise error

    def other(**given: object) -> str:
        return "called"

    signals.task_prerun.connect(handle)
    signals.task_prerun.connect(other)
    try:
        answers = dict(signals.task_prerun.send(sender=None))
        assert answers[other] == "called"
        return [answers[handle]]
    finally:
        signals.task_prerun.disconnect(handle)
        signals.task_prerun.disconnect(other)


@pytest.fixture
def in_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "_process", {})
    user_code.no_exit()


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError(), OfAProject(), GeneratorExit()])
def test_an_error_is_the_handlers_own(error: BaseException) -> None:
    [answer] = sent(error)
    assert isinstance(answer, Exception)


@pytest.mark.usefixtures("in_worker")
def test_an_exit_in_a_worker_is_the_handlers_own() -> None:
    [answer] = sent(SystemExit(3))
    assert isinstance(answer, user_code.EscapedError)


def test_an_exit_elsewhere_is_the_handlers_own_too() -> None:
    [answer] = sent(SystemExit(0))
    assert isinstance(answer, user_code.EscapedError)


class Ending:
    """Ends a process at a signal, as a web server's handlers and beat's do."""

    def __call__(self, *_: object) -> None:
        raise SystemExit(0)

    def by_method(self, *_: object) -> None:
        raise SystemExit(0)


class Inheriting(Ending):
    """Its class has no `__call__` of its own."""


def by_function(number: int, frame: object) -> None:
    raise SystemExit(0)


def by_partial(code: int, number: int, frame: object) -> None:
    sys.exit(code)


def decorated(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def call(*args: object) -> None:
        function(*args)

    return call


def once(number: int, frame: object) -> None:
    """A second signal ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(0)


@pytest.mark.parametrize(
    "end",
    [
        by_function, Ending().by_method, Ending(), Inheriting(), lambda *_: sys.exit(0), partial(by_partial, 0), once,
        decorated(once),
    ],
)  # fmt: skip
def test_an_exit_by_a_signal_ends_the_process(end: Callable[..., None]) -> None:
    before = signal.signal(signal.SIGUSR2, end)
    try:
        with pytest.raises(SystemExit):
            user_code.guarded("a function", signal.raise_signal, signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_an_exit_in_another_thread_is_the_functions_own() -> None:
    """Only the main thread handles signals."""
    with ThreadPoolExecutor() as threads, pytest.raises(user_code.EscapedError):
        threads.submit(user_code.guarded, "a function", sys.exit, 3).result()


@pytest.mark.usefixtures("in_worker")
@pytest.mark.parametrize("error", [KeyboardInterrupt, WorkerShutdown, WorkerTerminate, GreenletExit])
def test_what_is_meant_for_the_worker_reaches_it(error: type[BaseException]) -> None:
    with pytest.raises(error):
        sent(error())


def test_all_signals_of_tasks_are_guarded() -> None:
    of_tasks = {name for name in vars(signals) if name.startswith("task_") or name.endswith("_task_publish")}
    assert {id(getattr(signals, name)) for name in of_tasks} == {id(signal) for signal in handler_errors.GUARDED}
