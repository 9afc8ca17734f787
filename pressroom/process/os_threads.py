"""The standard library's own threads and clocks, also in a process in which gevent has replaced them."""

from __future__ import annotations

import _thread  # noqa: F401 - `native` looks it up
import sys
from collections.abc import Callable
from typing import Any


def native(module: str, name: str) -> Any:
    """Return the standard library's own ``module.name``, under gevent too."""
    if "gevent.monkey" in sys.modules:
        return sys.modules["gevent.monkey"].get_original(module, name)
    return getattr(sys.modules[module], name)


def start_native_thread(run: Callable[[], None]) -> None:
    """Start a thread of the operating system, under any pool. A busy hub of greenlets cannot starve it."""
    native("_thread", "start_new_thread")(run, ())
