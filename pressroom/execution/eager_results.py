"""Results of eager tasks, which async code may await as those of stored calls."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from celery.result import EagerResult

# The stubs cover half of the class.
_EagerResult: Any = EagerResult


class AwaitableEagerResult(_EagerResult):  # type: ignore[misc]  # see _EagerResult
    """Celery's EagerResult, which async code may await."""

    @classmethod
    def of(cls, result: Any) -> AwaitableEagerResult:
        """Return the same result in this form."""
        return cls(*result.__reduce_args__())

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:  # noqa: ASYNC109 - as `get`
        """Return the result, as ``get()`` does."""
        return self.get(timeout, propagate)

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the result."""
        return self.aget().__await__()
