"""The relay counts ended runs for the figures of the operations pages."""

from __future__ import annotations

import datetime

from pressroom.sql import figures


class EndedRunCounter:
    """Counts what ended before an edge, once all transactions of that moment have ended: none can add to it then."""

    EVERY = 10.0
    """Seconds between two counts, if all is counted."""
    LONGEST_WAIT = 3600.0
    """Seconds for which the count waits for an open transaction. What that one ends is counted only if it is noted."""

    def __init__(self) -> None:
        self._next = float("-inf")
        self._edge: figures.Edge | None = None
        self._edge_at = float("-inf")
        self._until: datetime.datetime | None = None

    def tick(self, now: float) -> None:
        """Count if it is time to. ``now`` is monotonic."""
        if now < self._next:
            return
        self._next = now + self.EVERY
        if self._edge is None or now - self._edge_at >= self.LONGEST_WAIT or figures.is_settled(self._edge):
            self._until = None if self._edge is None else self._edge.at
            self._edge, self._edge_at = figures.edge(), now
        if self._until is not None and figures.count_ended(self._until):
            self._next = now
