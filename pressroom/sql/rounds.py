"""When the relay and beat last did their round: what they would not tell if they were stuck."""

from __future__ import annotations

import time

from django.db import connection

EVERY = 5.0
"""Seconds between two that are written, at least."""


class Ticker:
    """Of one process; however many there are of its kind, the last one counts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._last = float("-inf")

    def tick(self) -> None:
        """A round was done."""
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
