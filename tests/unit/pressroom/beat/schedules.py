"""Schedules that are due, and what beat has made of them."""

import datetime
from typing import Any

from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from pressroom.beat.scheduler import LedgerScheduler
from pressroom.models import BrokenSchedule, TaskCall

ARGS = '["/dev/null", "x"]'
LONG_AGO = datetime.timedelta(hours=1)
TABLE = "django_celery_beat_periodictask"


def row(name: str, every: int = 10, **fields: Any) -> PeriodicTask:
    """A schedule that is due."""
    every_ten = IntervalSchedule.objects.get_or_create(every=every, period="seconds")[0]
    fields = {"task": "probe.effect", "args": ARGS, "interval": every_ten, **fields}
    made = PeriodicTask.objects.create(name=name, **fields)
    PeriodicTask.objects.filter(pk=made.pk).update(last_run_at=timezone.now() - LONG_AGO)
    return PeriodicTask.objects.get(pk=made.pk)


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    PeriodicTasks.update_changed()


def a_round(scheduler: LedgerScheduler) -> None:
    """Until nothing is due; never so many that it spins."""
    for _ in range(30):
        if scheduler.tick() > 0:
            return
    raise AssertionError("it spins")


def fired(name: str) -> int:
    return sum(
        f'"periodic_task_name": "{name}"' in headers for headers in TaskCall.objects.values_list("headers", flat=True)
    )


def marks() -> dict[str, str]:
    return dict(BrokenSchedule.objects.values_list("name", "error"))


def entry(**fields: Any) -> dict[str, Any]:
    return {"task": "probe.effect", "schedule": 10, "args": ("/dev/null", "x"), **fields}
