"""Settings read from the environment, where each number has its bounds. What is wrong is kept, for a check to say.

Nothing here raises: a value that cannot be used leaves the default, and no process starts (``app/checks/``).
"""

from __future__ import annotations

import builtins
import json
import math
import os
from typing import Any

import environ

MOST = 10**9
"""No number of bytes, seconds or pixels is larger."""
TRUE, FALSE = ("1", "true", "on", "yes", "y", "ok"), ("", "0", "false", "off", "no", "n")


class Environment(environ.Env):  # type: ignore[misc]  # without types
    """django-environ's, whose readers judge what they read. ``wrong`` has a sentence for each bad variable.

    They have the names of django-environ's own, so that there is no other way to read a number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrong: dict[str, str] = {}
        self.numbers: set[str] = set()

    def int(self, name: str, default: builtins.int, *, least: builtins.int = 1, most: builtins.int = MOST) -> Any:
        """A whole number from ``least`` to ``most``."""
        return self._number(name, builtins.int, default, least, most)

    def float(
        self, name: str, default: builtins.float, *, least: builtins.float | None = None, most: builtins.float = MOST
    ) -> Any:
        """A number from ``least`` to ``most``; without ``least``, above 0."""
        return self._number(name, builtins.float, default, least, most)

    def _number(self, name: str, kind: Any, default: Any, least: builtins.float | None, most: builtins.float) -> Any:
        self.numbers.add(name)
        text = os.environ.get(name)
        # A chart or a compose file may hand on a variable that nobody has set.
        if text is None or not text.strip():
            return default
        low = "above 0" if least is None else f"from {least}"
        wanted = f"a {'whole ' if kind is builtins.int else ''}number {low} to {most}"
        try:
            value = kind(text) if text.isascii() else math.nan
        except (ValueError, OverflowError):
            value = math.nan
        if not ((value > 0 if least is None else value >= least) and value <= most):  # false for NaN
            self.wrong[name] = f"{name} is {text[:80]!r}, not {wanted}."
            return default
        return value

    def bool(self, name: str, default: builtins.bool = False) -> Any:
        """On or off: a word that is neither is wrong, where django-environ takes it for off."""
        text = os.environ.get(name)
        if text is None:
            return default
        word = text.strip().lower()
        if word not in (*TRUE, *FALSE):
            self.wrong[name] = f"{name} is {text[:80]!r}, neither 1 nor 0."
            return default
        return word in TRUE

    def json(self, name: str, default: dict[str, Any]) -> Any:
        """A JSON object."""
        text = os.environ.get(name, "")
        try:
            value = json.loads(text) if text.strip() else default
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self.wrong[name] = f"{name} is no JSON object."
            return default
        return value
