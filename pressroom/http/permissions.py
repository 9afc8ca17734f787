"""Who may view and operate everybody's runs: the same rules for ``/api/tasks/`` and ``/admin/operations/``."""

from __future__ import annotations

from typing import Any

from celery import current_app

from pressroom.models import TaskRun

VIEW = "operations.view_operations"
OPERATE = "operations.operate"
"""Lets users repeat, cancel and discard runs, and edit schedules. It includes VIEW: nobody acts on what they cannot
see."""


def may_operate(user: Any) -> bool:
    """Return whether the user may act on everybody's runs."""
    return bool(user.has_perm(OPERATE))


def may_view(user: Any) -> bool:
    """Return whether the user may view everybody's runs."""
    return bool(user.has_perm(VIEW) or may_operate(user))


def may_cancel(user: Any, run: TaskRun) -> bool:
    """Return whether the user may cancel this run.

    Owners may cancel runs of tasks with ``owner_may_cancel``: the work that they ordered. Runs that the site calls as a
    consequence (mails, indexes, caches) may be cancelled only by users who may operate.
    """
    task = current_app.tasks.get(run.name)
    is_ordered = run.owner_id == user.pk and getattr(task, "owner_may_cancel", False)
    return is_ordered or may_operate(user)
