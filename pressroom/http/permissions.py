"""Who may look at everybody's runs and act on them: the same at ``/api/tasks/`` and in ``/admin/operations/``."""

from __future__ import annotations

from typing import Any

from celery import current_app

from pressroom.models import TaskRun

VIEW = "operations.view_operations"
OPERATE = "operations.operate"
"""To run again, cancel and discard, and to write schedules. Who may operate may look: nobody acts on what they
cannot see."""


def may_operate(user: Any) -> bool:
    """Whether the user may act on everybody's runs."""
    return bool(user.has_perm(OPERATE))


def may_view(user: Any) -> bool:
    """Whether the user may look at everybody's runs."""
    return bool(user.has_perm(VIEW) or may_operate(user))


def may_cancel(user: Any, run: TaskRun) -> bool:
    """Whether the user may cancel this run: what they have ordered, by the task's ``owner_may_cancel``.

    What the site does by itself after what they did (mails, indexes, caches) is not theirs to stop.
    """
    task = current_app.tasks.get(run.name)
    is_ordered = run.owner_id == user.pk and getattr(task, "owner_may_cancel", False)
    return is_ordered or may_operate(user)
