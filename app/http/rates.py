"""Parsing of rates as the settings write them: "30/min"."""

from __future__ import annotations

import re

RATE = re.compile(r"([1-9]\d{0,6})/(s|m|h|d|sec|min|second|minute|hour|day)s?", re.ASCII)
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_rate(text: str) -> tuple[int, int]:
    """Return the count and the period in seconds. Raises ValueError if the text is not a rate."""
    match = RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a rate")
    return int(match[1]), SECONDS[match[2][0]]
