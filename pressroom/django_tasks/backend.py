"""The backend that a project names in ``TASKS``. It stores each call of a ``@task`` in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.utils import timezone

from pressroom.conf import declared_queues
from pressroom.django_tasks import celery_tasks, results
from pressroom.django_tasks.framework import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)


class LedgerBackend(BaseTaskBackend):
    """Stores calls in the caller's transaction, and reads results from the ledger.

    ``QUEUES`` may name some of the queues of ``TASKRUNS_QUEUES``; without it a task may use all of them. There are no
    ``OPTIONS``.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        if "QUEUES" not in params:
            self.queues = set(declared_queues())

    def validate_task(self, task: Task[..., Any]) -> None:
        """Check a task, and make it known to Celery. Raises InvalidTask."""
        super().validate_task(task)
        celery_tasks.register(task)

    def enqueue(self, task: Task[..., Any], args: Any, kwargs: Any) -> TaskResult[Any]:
        """Store a call of ``task`` in the caller's transaction. A rollback undoes it.

        Raises InvalidTask; TypeError or ValueError for arguments that have no JSON form; kombu's EncodeError if they
        are larger than TASKRUNS_MAX_MESSAGE.
        """
        self.validate_task(task)
        if task.queue_name not in declared_queues():  # with `QUEUES: []` any name may be declared
            raise InvalidTask(
                f"Queue '{task.queue_name}' does not exist. TASKRUNS_QUEUES declares {', '.join(declared_queues())}."
            )
        result: TaskResult[Any] = TaskResult(
            task=task,
            id="",
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        run_after = task.run_after
        if run_after is not None and timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after)
        call = celery_tasks.celery_task(task).apply_async(
            result.args,
            result.kwargs,
            queue=task.queue_name,
            # Django's highest priority is 100, Celery's on Redis the lowest number. Both have 0 as the default.
            priority=-int(task.priority),
            eta=run_after,
            headers={results.HEADER: results.header_of(result)},
        )
        object.__setattr__(result, "id", call.id)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """Return the result of a call, as the ledger has it now. Raises TaskResultDoesNotExist."""
        result = results.get(result_id)
        if result is None or result.backend != self.alias:
            raise TaskResultDoesNotExist(result_id)
        return result

    def check(self, **kwargs: Any) -> Iterator[checks.CheckMessage]:
        """The queues must have workers."""
        unknown = sorted(self.queues - set(declared_queues()))
        if unknown:
            yield checks.Error(
                f"TASKS[{self.alias!r}] names queues that do not exist: {', '.join(unknown)}.",
                hint=f"Use some of {', '.join(declared_queues())}, or leave QUEUES out to allow all of them.",
                id="pressroom.E090",
            )
        if self.options:
            yield checks.Error(
                f"TASKS[{self.alias!r}] has OPTIONS that the backend does not know: {', '.join(sorted(self.options))}.",
                hint="Leave OPTIONS out. The settings TASKRUNS_… configure the ledger.",
                id="pressroom.E091",
            )
