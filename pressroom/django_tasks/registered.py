"""The ``@task`` functions of this process, by the dotted path that names their runs."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings

from pressroom.django_tasks.framework import Task

logger = logging.getLogger(__name__)

tasks: dict[str, Task[..., Any]] = {}
"""Each function's task as it was declared, if Celery knows it here."""


def find(name: str) -> Task[..., Any] | None:
    """Return the ``@task`` with this dotted path, or None. Imports its module if that belongs to the project.

    As a worker loads only the modules `tasks` of the apps, a ``@task`` elsewhere is imported when it is first needed.
    """
    return tasks.get(name) or _imported(name)


def _imported(name: str) -> Task[..., Any] | None:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        if not _is_of_project(module_name):
            return None
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
                continue  # the last part is a class
            logger.exception("the module of the task %s cannot be imported", name)
            return None
        except Exception:
            logger.exception("the module of the task %s cannot be imported", name)
            return None
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found if isinstance(found, Task) else None
    return None


def _is_of_project(module: str) -> bool:
    """Return whether the module is in an installed app or in the project's own package.

    The name of a run is text that came from a caller, which must not import anything else.
    """
    package = (settings.SETTINGS_MODULE or "").partition(".")[0]
    return module.partition(".")[0] == package or apps.get_containing_app_config(module) is not None
