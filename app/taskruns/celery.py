"""A Celery application on the ledger."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.app.task import Task


class LedgerCelery(Celery):
    """Celery, whose tasks are stored before they are sent. Everything else is Celery's own."""

    amqp_cls = "app.taskruns.outbox:LedgerAMQP"
    task_cls = "app.taskruns.task:LedgerTask"
    builtin_fixups = {"app.taskruns.fixup:fixup"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from app.taskruns.worker import LedgerStep

        self.steps["worker"].add(LedgerStep)

    def register_task(self, task: Any, **options: Any) -> Any:
        """As Celery's; a class that does not derive from the application's task class is made to."""
        from app.taskruns.task import LedgerTask

        kind = task if isinstance(task, type) else type(task)
        if issubclass(kind, Task) and not issubclass(kind, LedgerTask):
            task = type(kind.__name__, (kind, LedgerTask), {"__module__": kind.__module__})
        return super().register_task(task, **options)
