"""A Celery application on the ledger."""

from __future__ import annotations

from typing import Any

from celery import Celery


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
        """As Celery's, for a class or an instance; one of plain Celery's class becomes one of the ledger's."""
        if isinstance(task, type):
            task = _in_ledger(task)
        else:
            task.__class__ = _in_ledger(type(task))
        return super().register_task(task, **options)

    def _task_from_fun(  # type: ignore[override]  # Celery's forty options, passed on
        self, fun: Any, name: str | None = None, base: Any = None, **options: Any
    ) -> Any:
        base = base if base is None else _in_ledger(base)
        return super()._task_from_fun(fun, name=name, base=base, **options)


def _in_ledger(kind: type) -> type:
    """The class itself, or one made of it and the ledger's: every task needs the ledger's tracer."""
    from app.taskruns.task import LedgerTask

    if issubclass(kind, LedgerTask):
        return kind
    return type(kind.__name__, (kind, LedgerTask), {"__module__": kind.__module__, "__doc__": kind.__doc__})
