"""Whether the database is as far as this code: every process waits for that at its own start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from django.apps import apps
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two looks."""


def missing() -> str | None:
    """What this code still waits for, in a line: Postgres, or migrations; None once all of them are applied.

    A database that is further than the code is as good: migrations only expand until no old code runs.
    """
    try:
        applied = set(MigrationRecorder(connection).applied_migrations())
    except (DatabaseError, InterfaceError) as error:
        return f"Postgres gave no answer: {str(error).strip().splitlines()[0]}"
    waiting = [f"{app}.{name}" for app, name in sorted(_written() - applied)]
    if not waiting:
        return None
    more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    return f"migration {waiting[0]}{more} not applied: `manage.py migrate`"


def wait(pause: Callable[[float], object] = time.sleep) -> bool:
    """True once nothing is missing; False once ``pause``, which gets seconds, returns what is true."""
    told = None
    while True:
        why = missing()
        # Not kept: a worker forks its children from here.
        connection.close()
        if why is None:
            return True
        if why != told:
            logger.warning("waiting: %s", why)
            told = why
        if pause(PAUSE):
            return False


def _written() -> set[tuple[str, str]]:
    """App and name of every migration of this code: by the names of the files, none of which is loaded."""
    found = set()
    for config in apps.get_app_configs():
        module, _ = MigrationLoader.migrations_module(config.label)
        try:
            package = import_module(module) if module else None
        except ModuleNotFoundError:
            continue  # an app without models
        if package is not None:
            found |= {(config.label, name) for _, name, _ in iter_modules(package.__path__) if name[0] not in "_~"}
    return found
