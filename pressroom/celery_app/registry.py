"""Celery's registry of tasks, which imports a ``@task`` of Django's Tasks framework when it is first needed."""

from __future__ import annotations

from typing import Any

from celery.app.registry import TaskRegistry
from celery.app.trace import build_tracer
from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

# The stubs take it for a mapping of another kind.
_Registry: Any = TaskRegistry


class LedgerRegistry(_Registry):  # type: ignore[misc]  # see _Registry
    """Raises NotRegistered for an unknown name, as Celery's does, after looking for a ``@task`` of that name."""

    def __missing__(self, name: Any) -> Any:
        # By dotted path: only projects with TASKS load the backend.
        if (
            isinstance(name, str)
            and apps.ready
            and getattr(settings, "TASKS", None)
            and import_string("pressroom.django_tasks.celery_tasks.load")(name)
            and (task := self.get(name)) is not None
        ):
            if task.__trace__ is None:
                # A child of a pool that forks inherits the tracers of the tasks that its worker knew at its start.
                task.__trace__ = build_tracer(name, task, app=task.app)
            return task
        return super().__missing__(name)
