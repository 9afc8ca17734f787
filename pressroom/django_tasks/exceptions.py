"""What a worker raises in place of exceptions that would end its process. A result shows the original's name."""

from __future__ import annotations

import asyncio
import builtins


class SystemExit(Exception):  # noqa: A001 - a traceback shows this name
    """A task raised SystemExit."""


class CancelledError(Exception):
    """An async task was cancelled from within."""


STAND_INS: dict[type[BaseException], type[Exception]] = {
    builtins.SystemExit: SystemExit,
    asyncio.CancelledError: CancelledError,
}
"""The stand-in for each of them."""
ORIGINALS = {f"{__name__}.{ours.__name__}": f"{its.__module__}.{its.__name__}" for its, ours in STAND_INS.items()}
"""The path of the original for the path of each stand-in."""
