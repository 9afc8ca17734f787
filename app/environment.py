"""Reading and validating settings from the environment. Each number has bounds. Errors are collected for a check.

Nothing here raises. An unusable value leaves the default, and the checks keep the process from starting
(``app/checks/``).
"""

from __future__ import annotations

import builtins
import json
import math
import os
from typing import Any

import environ

MOST = 10**9
"""Default upper bound of a number of bytes, seconds or pixels."""
TRUE, FALSE = ("1", "true", "on", "yes", "y", "ok"), ("", "0", "false", "off", "no", "n")


class Environment(environ.Env):  # type: ignore[misc]  # without types
    """django-environ's Env with validation. ``wrong`` holds a sentence for each bad variable.

    The methods replace those of django-environ, so that no setting can read a number without validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrong: dict[str, str] = {}
        self.numbers: set[str] = set()

    def int(self, name: str, default: builtins.int, *, least: builtins.int = 1, most: builtins.int = MOST) -> Any:
        """Read a whole number from ``least`` to ``most``."""
        return self._number(name, builtins.int, default, least, most)

    def float(
        self, name: str, default: builtins.float, *, least: builtins.float | None = None, most: builtins.float = MOST
    ) -> Any:
        """Read a number from ``least`` to ``most``. Without ``least`` it must be above 0."""
        return self._number(name, builtins.float, default, least, most)

    def _number(self, name: str, kind: Any, default: Any, least: builtins.float | None, most: builtins.float) -> Any:
        self.numbers.add(name)
        text = os.environ.get(name)
        # A chart or a compose file may pass on an unset variable as an empty one.
        if text is None or not text.strip():
            return default
        low = "above 0" if least is None else f"from {least}"
        wanted = f"a {'whole ' if kind is builtins.int else ''}number {low} to {most}"
        try:
            value = kind(text) if text.isascii() else math.nan
        except (ValueError, OverflowError):
            value = math.nan
        if not ((value > 0 if least is None else value >= least) and value <= most):  # NaN fails every comparison
            self.wrong[name] = f"{name} is {text[:80]!r}, not {wanted}."
            return default
        return value

    def bool(self, name: str, default: builtins.bool = False) -> Any:
        """Read a switch. An unknown word is an error; django-environ would read it as off."""
        text = os.environ.get(name)
        if text is None:
            return default
        word = text.strip().lower()
        if word not in (*TRUE, *FALSE):
            self.wrong[name] = f"{name} is {text[:80]!r}, neither 1 nor 0."
            return default
        return word in TRUE

    def json(self, name: str, default: dict[str, Any]) -> Any:
        """Read a JSON object."""
        text = os.environ.get(name, "")
        try:
            value = json.loads(text) if text.strip() else default
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self.wrong[name] = f"{name} is not a JSON object."
            return default
        return value
