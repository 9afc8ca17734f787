"""The schedules of the code: each app's are in its ``schedule.py``, as Celery's ``beat_schedule`` has them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def schedules(apps: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Those of these apps together. Raises ValueError where two have the same name, which is the row's in the admin."""
    found: dict[str, dict[str, Any]] = {}
    for app in apps:
        if find_spec(f"{app}.schedule") is None:
            continue
        own = import_module(f"{app}.schedule").SCHEDULE
        if twice := found.keys() & own.keys():
            raise ValueError(f"{app}.schedule: another app has a schedule of this name, too: {', '.join(twice)}")
        found |= own
    return found
