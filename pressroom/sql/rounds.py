"""Ticks: when the relay and beat last completed a round. A process that is stuck writes none."""

from __future__ import annotations

import time

from django.db import connection

EVERY = 5.0
"""Seconds between two ticks that are written, at least."""


class Ticker:
    """Writes the ticks of one process. Processes of the same ``name`` share a row, which holds the last tick."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._last = float("-inf")

    def tick(self) -> None:
        """Record that a round was completed. Call it after each round: it writes at most once in EVERY seconds."""
        if time.monotonic() - self._last < EVERY:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO taskruns_tick (name, at) VALUES (%s, clock_timestamp())
                ON CONFLICT (name) DO UPDATE SET at = excluded.at
                """,
                [self.name],
            )
        self._last = time.monotonic()
