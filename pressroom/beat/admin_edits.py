"""An edit of a schedule leaves what beat has written meanwhile: a form saves every column as it once read it.

Otherwise an edit that began before a tick would set the last run back, and beat would fire it twice.
"""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.signals import post_init, post_save, pre_save
from django_celery_beat.models import PeriodicTask

BEATS = ("last_run_at", "total_run_count")
"""The columns that beat writes."""


def connect() -> None:
    """From now on, in this process."""
    post_init.connect(_note, sender=PeriodicTask, dispatch_uid="taskruns.beat_saves")
    pre_save.connect(_leave, sender=PeriodicTask, dispatch_uid="taskruns.beat_saves")
    post_save.connect(_put_back, sender=PeriodicTask, dispatch_uid="taskruns.beat_saves")


def _note(instance: Any, **_: object) -> None:
    instance.as_read = {name: instance.__dict__.get(name) for name in BEATS}
    instance.as_left = {}


def _leave(instance: Any, **_: object) -> None:
    """What was not changed here keeps what the row has. What is switched off forgets its last run."""
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
        # It was not read: what it says of them is its maker's.
        instance.as_read = {}
