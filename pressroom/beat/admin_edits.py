"""Keep an edit of a schedule from overwriting what beat has written since the row was read.

A form saves every column as it read it. Without these signal handlers, an edit that began before a tick would set the
last run back, and beat would fire the schedule twice.
"""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.signals import post_init, post_save, pre_save
from django_celery_beat.models import PeriodicTask

BEATS = ("last_run_at", "total_run_count")
"""The columns that beat writes."""


def connect() -> None:
    """Connect the signal handlers in this process."""
    post_init.connect(_note, sender=PeriodicTask, dispatch_uid="pressroom.admin_edits")
    pre_save.connect(_leave, sender=PeriodicTask, dispatch_uid="pressroom.admin_edits")
    post_save.connect(_put_back, sender=PeriodicTask, dispatch_uid="pressroom.admin_edits")


def _note(instance: Any, **_: object) -> None:
    instance.as_read = {name: instance.__dict__.get(name) for name in BEATS}
    instance.as_left = {}


def _leave(instance: Any, **_: object) -> None:
    """Leave the columns that this instance did not change as they are in the row.

    A schedule that is switched off forgets its last run.
    """
    if instance._state.adding or not instance.enabled:
        return
    for name, value in instance.as_read.items():
        if instance.__dict__.get(name, value) == value:
            instance.as_left[name] = value
            setattr(instance, name, F(name))


def _put_back(instance: Any, created: bool, **_: object) -> None:
    for name, value in instance.as_left.items():
        setattr(instance, name, value)
    _note(instance)
    if created:
        # The instance was not read from the table, so the values of these columns are the caller's.
        instance.as_read = {}
