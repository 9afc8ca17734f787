"""Settings read from the environment, where each number has its bounds. What is wrong is kept, for a check to say.

Nothing here raises: with a value that cannot be used the default stands, and no process starts (``app/checks.py``).
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import environ

MOST = 10**9
"""No number of bytes, seconds or pixels is larger."""
TRUE, FALSE = ("1", "true", "on", "yes", "y", "ok"), ("", "0", "false", "off", "no", "n")


class Environment(environ.Env):  # type: ignore[misc]  # without types
    """django-environ's, with readers that judge what they read. ``wrong`` has a sentence for each bad variable."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: dict[str, str] = {}
        self.numbers: set[str] = set()

    def whole(self, name: str, default: int, *, least: int = 1, most: int = MOST) -> int:
        """A whole number from ``least`` to ``most``."""
        return int(self._number(name, int, default, least, most))

    def real(self, name: str, default: float, *, least: float | None = None, most: float = MOST) -> float:
        """A number from ``least`` to ``most``; without ``least``, above 0."""
        return float(self._number(name, float, default, least, most))

    def _number(self, name: str, kind: Any, default: Any, least: float | None, most: float) -> Any:
        self.numbers.add(name)
        text = os.environ.get(name)
        # A chart or a compose file may hand on a variable that nobody has set.
        if text is None or not text.strip():
            return default
        low = "above 0" if least is None else f"from {least}"
        wanted = f"a {'whole ' if kind is int else ''}number {low} to {most}"
        try:
            value = kind(text) if text.isascii() else math.nan
        except (ValueError, OverflowError):
            value = math.nan
        if not ((value > 0 if least is None else value >= least) and value <= most):  # false for NaN
            self.wrong[name] = f"{name} is {text[:80]!r}, not {wanted}."
            return default
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """On or off: a word that is neither is wrong, where django-environ takes it for off."""
        text = os.environ.get(name)
        if text is None:
            return default
        word = text.strip().lower()
        if word not in (*TRUE, *FALSE):
            self.wrong[name] = f"{name} is {text[:80]!r}, neither 1 nor 0."
            return default
        return word in TRUE

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON object, empty where there is none."""
        text = os.environ.get(name, "")
        try:
            value = json.loads(text or "{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self.wrong[name] = f"{name} is no JSON object."
            return {}
        return value
