"""The schedules of the code: each app's are in its ``schedule.py``, as Celery's ``beat_schedule`` has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pressroom.plugins import parts


def schedules(apps: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Those of these apps together. Raises ValueError where two have the same name, which is the row's in the admin."""
    found: dict[str, dict[str, Any]] = {}
    for module in parts("schedule", apps):
        own = module.SCHEDULE
        if twice := found.keys() & own.keys():
            raise ValueError(f"{module.__name__}: another app has a schedule of this name, too: {', '.join(twice)}")
        found |= own
    return found
