"""Async functions in a pool of greenlets.

An event loop belongs to a thread of the operating system. In the one that all greenlets share, no second loop could run
beside it, and Django would refuse the database to every other greenlet. So the loop gets a native thread, and what it
hands to `sync_to_async`, such as a query, runs in the task's own greenlet, on its connection.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext

LOOPS = 100
"""Event loops that run at once at most in a process. Further async functions wait."""
_pools: dict[int, Any] = {}
"""The pool of native threads of each hub."""


def is_patched() -> bool:
    """Return whether gevent has replaced this process's threads by greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def run(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Return what the coroutine returns that ``call`` makes. The hub goes on meanwhile."""
    return _GreenletExecutor().run(call)


class _GreenletExecutor(ThreadPoolExecutor):
    """Runs what other threads submit in the greenlet that made it. asyncio takes nothing but a ThreadPoolExecutor."""

    def __init__(self) -> None:
        from gevent import get_hub  # type: ignore[import-untyped]  # ships no types
        from gevent.event import Event  # type: ignore[import-untyped]
        from gevent.threadpool import ThreadPool  # type: ignore[import-untyped]

        super().__init__(max_workers=1)
        hub = get_hub()
        self._threads_of_hub = _pools.setdefault(id(hub), ThreadPool(LOOPS, hub))
        self._submitted: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._ready = Event()
        self._wake = hub.loop.async_()
        self._wake.start(self._ready.set)
        self._is_over = False
        self._cancel: Callable[[], object] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have the greenlet call ``fn``. Raises RuntimeError if its task has been ended."""
        if self._is_over:
            raise RuntimeError("the task has been ended")
        future: Future[Any] = Future()
        self._submitted.append((future, lambda: fn(*args, **kwargs)))
        self._wake.send()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: there is no thread to end."""

    def run(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run the coroutine in a native thread, and in this greenlet what it submits."""
        ended: list[tuple[Any, BaseException | None]] = []
        here = contextvars.copy_context()

        async def main() -> Any:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            loop.set_default_executor(self)
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            async with ThreadSensitiveContext(executor=self):
                return await call()

        def in_thread() -> None:
            try:
                ended.append((here.run(asyncio.run, main()), None))
            except BaseException as error:  # noqa: BLE001 - raised in the greenlet
                ended.append((None, error))
            self._wake.send()

        try:
            self._threads_of_hub.spawn(in_thread)
            while not ended:
                self._ready.wait()
                self._ready.clear()
                self._do_submitted()
        finally:
            self._is_over = True
            self._wake.stop()
            for future, _ in self._submitted:
                future.cancel()
            if not ended and self._cancel is not None:
                self._cancel()
        returned, error = ended[0]
        if error is not None:
            raise error
        return returned

    def _do_submitted(self) -> None:
        while self._submitted:
            future, call = self._submitted.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except Exception as error:  # noqa: BLE001 - raised where it was submitted
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(error)
                raise
