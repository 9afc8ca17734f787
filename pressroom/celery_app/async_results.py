"""Results that async code awaits. Between two looks at the ledger the event loop is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

from asgiref.sync import sync_to_async
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult, assert_will_not_block  # type: ignore[attr-defined]  # not in the stubs

from pressroom.celery_app.uncommitted import refuse_uncommitted

SHORTEST_POLL, LONGEST_POLL = 0.01, 0.5
"""Seconds between two looks, at first and at most."""

# The stubs cover half of these classes.
_AsyncResult: Any = AsyncResult
_GroupResult: Any = GroupResult


class LedgerResult(_AsyncResult):  # type: ignore[misc]  # see _AsyncResult
    """Celery's AsyncResult, which async code may await."""

    repeated = False
    """Whether the call was unique and stored nothing: the result is that of an earlier call."""

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:  # noqa: ASYNC109 - as `get`
        """Return the result, as ``get()`` does, without blocking the event loop.

        Raises what the task, or an earlier one of its chain, raised if ``propagate``; celery.exceptions.TimeoutError
        after ``timeout`` seconds; RuntimeError if the call has yet to be committed, or in a task.
        """
        if self.ignored:
            return None
        assert_will_not_block()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = SHORTEST_POLL
        if not await sync_to_async(self.ready)():
            await sync_to_async(refuse_uncommitted)(self)
            while not await sync_to_async(self.ready)():
                if deadline is not None and time.monotonic() >= deadline:
                    raise CeleryTimeoutError("The operation timed out.")
                if propagate and self.parent:
                    # If an earlier step was cancelled, this one never runs.
                    await sync_to_async(self._maybe_reraise_parent_error)()
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_POLL)
        return await sync_to_async(self.get)(propagate=propagate)

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the result: ``await task.adelay(...)`` returns this object, and awaiting it waits for the task."""
        return self.aget().__await__()


class LedgerGroupResult(_GroupResult):  # type: ignore[misc]  # see _GroupResult
    """Celery's GroupResult, which async code may await."""

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> list[Any]:  # noqa: ASYNC109 - as `get`
        """Return the results in their order, as ``get()`` does. Raises as `LedgerResult.aget`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return [
            await one.aget(None if deadline is None else max(0.0, deadline - time.monotonic()), propagate)
            for one in self.results
        ]

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Return the results of all parts."""
        return self.aget().__await__()
