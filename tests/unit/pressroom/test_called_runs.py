"""What a task does with the runs that it has called."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now

from pressroom.execution.called_runs import cancel_called, start_at_once
from pressroom.models import LiveRun, Status, TaskRun
from tests.support.locks import waiting_for_locks
from tests.support.notes import noted
from tests.support.probes import here, tasks
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


class TestCancel:
    def test_waiting_runs_end_with_their_hooks_and_running_ones_are_asked_to(self, tmp_path: Path) -> None:
        path = str(tmp_path / "told")
        waiting, running, ended, other = (tasks.waited.delay(path) for _ in range(4))
        here.claimed(TaskRun.of(running))
        here.execute(TaskRun.of(ended))
        assert cancel_called([waiting.id, running.id, ended.id, "nobody's"]) == 2
        assert [TaskRun.of(result).status for result in (waiting, running, ended, other)] == [
            Status.CANCELLED, Status.RUNNING, Status.SUCCEEDED, Status.QUEUED,
        ]  # fmt: skip
        assert TaskRun.of(running).cancel_requested_at is not None
        assert noted(path) == ["succeeded", "cancelled"]

    def test_a_run_that_comes_to_wait_at_this_moment_is_cancelled_too(self) -> None:
        result = tasks.effect.delay("/dev/null", "x")
        here.claimed(TaskRun.of(result))

        def cancel() -> int:
            try:
                return cancel_called([result.id])
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as thread:
            with transaction.atomic():
                LiveRun.objects.update(status=Status.QUEUED)
                cancelling = thread.submit(cancel)
                until(waiting_for_locks, "it waits for the row")
            assert cancelling.result() == 1
        assert TaskRun.of(result).status == Status.CANCELLED

    def test_of_none_is_none(self) -> None:
        assert cancel_called([]) == 0


class TestStart:
    @pytest.mark.parametrize("status", [Status.QUEUED, Status.RETRYING])
    def test_a_run_that_waits_for_later_is_due(self, status: Status) -> None:
        later = tasks.effect.apply_async(["/dev/null", "x"], countdown=3600)
        LiveRun.objects.update(status=status)
        assert start_at_once(later.id)
        assert LiveRun.objects.filter(run_at__lte=Now(), status=status).exists()

    def test_one_that_is_due_or_running_or_gone_is_left_alone(self) -> None:
        due = tasks.effect.delay("/dev/null", "x")
        at = TaskRun.of(due).run_at
        assert not start_at_once(due.id)
        assert TaskRun.of(due).run_at == at
        here.claimed(TaskRun.of(due))
        assert not start_at_once(due.id)
        assert not start_at_once("nobody's")
