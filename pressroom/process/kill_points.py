"""The points at which a process may be killed by a test, each named for what was done last.

``call.stored``, ``call.committed``, ``relay.marked``, ``relay.pushed``, ``worker.received``, ``worker.claimed``,
``worker.ran``, ``worker.finished``; in a bundle ``worker.exchanged``.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing(point: str) -> None:
    """What happens at every point, unless a test's own module has put something else here."""


reach: Callable[[str], None] = _nothing
