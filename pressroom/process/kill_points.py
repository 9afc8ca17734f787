"""The points at which a test may kill a process. Each is named after the step that was done last.

``call.stored``, ``call.committed``, ``relay.marked``, ``relay.pushed``, ``worker.received``, ``worker.accepted``,
``worker.claimed``, ``worker.ran``, ``worker.finished``; in a bundle ``worker.claimed_next``; ``bulk.acted``.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing(point: str) -> None:
    """Do nothing. A test replaces ``reach`` with a function of its own."""


reach: Callable[[str], None] = _nothing
