"""How a program calls a task: with Django, or by asyncio on a connection of the queue's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Calls(Protocol):
    """Calls the task with its number and a payload."""

    def each(self, numbers: Iterable[int], payload: str) -> None:
        """Call one after another, each committed by itself."""

    def together(self, numbers: Iterable[int], payload: str) -> bool:
        """Make all calls in one transaction. Returns False, without a call, if the queue has no way to do that."""

    def committed(self, number: int, payload: str) -> float:
        """Make one call in a transaction. Returns the time of its commit, by ``time.monotonic()``."""


class DjangoCalls:
    """Calls from a program that uses Django.

    ``transactional`` says whether a call belongs to the surrounding transaction. If not, it is made after the commit.
    ``many`` makes many calls within a transaction.
    """

    def __init__(
        self,
        one: Callable[[int, str], object],
        many: Callable[[Iterable[int], str], object] | None = None,
        transactional: bool = False,
    ) -> None:
        self.one = one
        self.many = many
        self.transactional = transactional

    def each(self, numbers: Iterable[int], payload: str) -> None:
        for number in numbers:
            self.one(number, payload)

    def together(self, numbers: Iterable[int], payload: str) -> bool:
        from django.db import transaction

        if self.many is None:
            return False
        with transaction.atomic():
            self.many(numbers, payload)
        return True

    def committed(self, number: int, payload: str) -> float:
        """As in `Calls`. The time is taken before the framework's own work after the commit."""
        from django.db import transaction

        times: list[float] = []
        with transaction.atomic():
            transaction.on_commit(lambda: times.append(time.monotonic()))
            if self.transactional:
                self.one(number, payload)
            else:
                transaction.on_commit(partial(self.one, number, payload))
        return times[0]


class AsyncCalls:
    """Calls from a program that uses asyncio, for queues that know transactions but not Django's.

    ``each`` and ``together`` are coroutine functions; ``together`` has committed when it returns.
    """

    def __init__(
        self,
        each: Callable[[Iterable[int], str], Coroutine[Any, Any, object]],
        together: Callable[[Iterable[int], str], Coroutine[Any, Any, object]],
    ) -> None:
        self._each = each
        self._together = together

    def each(self, numbers: Iterable[int], payload: str) -> None:
        run(self._each(numbers, payload))

    def together(self, numbers: Iterable[int], payload: str) -> bool:
        run(self._together(numbers, payload))
        return True

    def committed(self, number: int, payload: str) -> float:
        return run(self._then_time(number, payload))

    async def _then_time(self, number: int, payload: str) -> float:
        await self._together([number], payload)
        return time.monotonic()


_loops: list[Any] = []


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the caller's event loop, which is the same for all calls."""
    import uvloop

    if not _loops:
        _loops.append(uvloop.new_event_loop())
    result: T = _loops[0].run_until_complete(coroutine)
    return result
