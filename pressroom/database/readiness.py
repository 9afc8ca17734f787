"""Whether the database has all migrations of this code: every process waits for that when it starts."""

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
"""Seconds between two checks."""


def missing() -> str | None:
    """Return a line that says what this code waits for (Postgres or migrations), or None if nothing is missing.

    A database that has more migrations than the code is fine: migrations only expand while old code runs.
    """
    try:
        applied = set(MigrationRecorder(connection).applied_migrations())
    except (DatabaseError, InterfaceError) as error:
        return f"Postgres did not answer: {str(error).strip().splitlines()[0]}"
    waiting = [f"{app}.{name}" for app, name in sorted(_written() - applied)]
    if not waiting:
        return None
    more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    return f"migration {waiting[0]}{more} not applied: `manage.py migrate`"


def wait(pause: Callable[[float], object] = time.sleep) -> bool:
    """Wait until nothing is missing. Returns True then, or False as soon as ``pause`` returns a true value.

    ``pause`` is called with the seconds to wait.
    """
    logged = None
    while True:
        why = missing()
        # Close the connection: a worker forks its children after this.
        connection.close()
        if why is None:
            return True
        if why != logged:
            logger.warning("waiting: %s", why)
            logged = why
        if pause(PAUSE):
            return False


def _written() -> set[tuple[str, str]]:
    """Return app and name of every migration of this code, from the names of the files: it imports no migration."""
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
