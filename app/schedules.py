"""The schedules defined in code. Each app's are in its ``schedule.py``, in the form of Celery's ``beat_schedule``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pressroom.plugins import parts


def schedules(apps: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Collect the schedules of these apps. Raises ValueError if two have one name, because it identifies their row."""
    found: dict[str, dict[str, Any]] = {}
    for module in parts("schedule", apps):
        own = module.SCHEDULE
        if twice := found.keys() & own.keys():
            raise ValueError(f"{module.__name__}: another app has a schedule with the same name: {', '.join(twice)}")
        found |= own
    return found
