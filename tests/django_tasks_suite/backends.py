"""What the suite's own backends are replaced with: ours, with what only those two can do."""

from __future__ import annotations

from typing import Any

from django.test import TransactionTestCase

from pressroom.django_tasks import LedgerBackend
from pressroom.django_tasks.framework import TaskResult
from pressroom.models import LiveRun, TaskRun
from tests.support.probes import here


class Stored(LedgerBackend):
    """In the place of the dummy backend: it stores calls, which nothing executes."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.results: list[TaskResult[Any]] = []

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult[Any]:
        result = super().enqueue(task, args, kwargs)
        self.results.append(result)
        return result

    def clear(self) -> None:
        self.results.clear()
        LiveRun.objects.all().delete()


class Executed(LedgerBackend):
    """In the place of the immediate backend: each call is executed in this process, as a worker would."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult[Any]:
        result = super().enqueue(task, args, kwargs)
        here.execute(TaskRun.objects.get(celery_id=result.id))
        result.refresh()
        return result


class WithDatabase(TransactionTestCase):
    """In the place of the suite's base classes. Calls that a test leaves behind disturb no other."""

    def _fixture_teardown(self) -> None:
        """Leave the tables as they are: emptying all of the site's takes a second."""
