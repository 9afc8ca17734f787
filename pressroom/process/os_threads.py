"""The standard library's own threads and clocks, where gevent has put its own in their place."""

from __future__ import annotations

import _thread  # noqa: F401 - for `native`
import sys
from collections.abc import Callable
from typing import Any


def native(module: str, name: str) -> Any:
    """The standard library's own ``module.name``, under gevent too."""
    if "gevent.monkey" in sys.modules:
        return sys.modules["gevent.monkey"].get_original(module, name)
    return getattr(sys.modules[module], name)


def start_native_thread(run: Callable[[], None]) -> None:
    """A thread of the operating system, under every pool: a busy hub of greenlets cannot starve it."""
    native("_thread", "start_new_thread")(run, ())
