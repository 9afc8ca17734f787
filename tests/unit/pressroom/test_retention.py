"""What has ended is deleted after its time, and nothing else is."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from app.celery import app
from pressroom import retention
from pressroom.checks import retention as retention_check
from pressroom.models import (
    ChordPart,
    Status,
    StoredResult,
    TaskAttempt,
    TaskCall,
    TaskGroup,
    TaskRun,
    Undeliverable,
    Worker,
)
from pressroom.sql import workers
from pressroom.uuid7 import uuid7_at
from tests.support.ledger_rows import make_run

pytestmark = pytest.mark.django_db


def run(status: str, days: float, **fields: Any) -> TaskRun:
    """One that was made and ended so many days ago."""
    then = timezone.now() - timedelta(days=days)
    number = TaskRun.objects.count()
    key = uuid7_at(then).int + number
    return make_run(
        id=type(uuid7_at(then))(int=key), celery_id=str(number), name="probe.effect", queue="default", status=status,
        **{"created_at": then, "run_at": then, "finished_at": then} | fields,
    )  # fmt: skip


@pytest.mark.parametrize("status", sorted(settings.TASKRUNS_RETENTION))
def test_each_status_has_its_time(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    days = settings.TASKRUNS_RETENTION[status]
    past = [run(status, days + 0.1) for _ in range(5)]
    TaskAttempt.objects.create(run=past[0], number=1, outcome="lost", finished_at=timezone.now())
    repeated = run(Status.QUEUED, days - 0.1, finished_at=None, retry_of=past[1])
    kept = {run(status, days - 0.1).pk, repeated.pk}

    assert retention.prune() == 5
    assert set(TaskRun.objects.values_list("pk", flat=True)) == kept
    assert not TaskAttempt.objects.exists()
    assert set(TaskCall.objects.values_list("pk", flat=True)) == kept


def test_what_is_deleted_is_not_read() -> None:
    past = run(Status.DEAD, 91, body='["long"]', result='"long"')
    TaskAttempt.objects.create(run=past, number=1, outcome="lost", finished_at=timezone.now())
    StoredResult.objects.create(celery_id="past", state="SUCCESS", stored_at=past.created_at, result='"long"')
    with CaptureQueriesContext(connection) as asked:
        assert retention.prune() == 1
    read = [query["sql"] for query in asked if query["sql"].startswith("SELECT")]
    assert read
    assert not [sql for sql in read if '"body"' in sql or '"result"' in sql or '"taskruns_taskattempt"' in sql]


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RETRYING, Status.RUNNING])
def test_what_is_live_is_kept_however_old(status: str) -> None:
    run(status, 10_000, finished_at=None)
    assert retention.prune() == 0
    assert TaskRun.objects.count() == 1


def test_what_was_made_long_ago_and_ended_just_now_is_kept() -> None:
    run(Status.SUCCEEDED, 10_000, finished_at=timezone.now())
    assert retention.prune() == 0


def test_the_rest_goes_too() -> None:
    then = timezone.now() - timedelta(days=8)
    long_ago = timezone.now() - timedelta(days=91)
    StoredResult.objects.create(celery_id="past", state="SUCCESS", stored_at=then)
    fired = TaskGroup.objects.create(group_id="fired", size=1, done=1, fired=True, created_at=then)
    ChordPart.objects.create(group=fired, celery_id="part", position=0, state="SUCCESS")
    TaskGroup.objects.create(group_id="waits for a part that is due later", size=2, done=1, created_at=then)
    TaskGroup.objects.create(group_id="waits for ever", size=2, done=1, created_at=long_ago)
    Undeliverable.objects.create(queue="default", message=b"?", reason="?")
    Undeliverable.objects.update(received_at=long_ago)
    alive = workers.register("alive", '["default"]', 1)
    Worker.objects.create(name="dead", queues=[], slots=1, started_at=then, heartbeat_at=then, dead_at=long_ago)
    retention.prune()

    assert not StoredResult.objects.exists()
    assert [group.group_id for group in TaskGroup.objects.all()] == ["waits for a part that is due later"]
    assert not ChordPart.objects.exists()
    assert not Undeliverable.objects.exists()
    assert list(Worker.objects.values_list("pk", flat=True)) == [alive]


def test_a_result_is_told_without_the_worker_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "result_extended", True)
    then = timezone.now()
    gone = Worker.objects.create(name="gone@x", queues=[], slots=1, started_at=then, heartbeat_at=then)
    headers, body = '{"retries": 0}', "[[1], {}, {}]"
    one = run(Status.SUCCEEDED, 1, worker=gone, headers=headers, body=body, result="2")
    before = app.backend.get_task_meta(one.celery_id, cache=False)
    gone.delete()
    after = app.backend.get_task_meta(one.celery_id, cache=False)

    assert before.pop("worker") == "gone@x"
    assert after == before


@pytest.mark.parametrize(
    "wrong", [{"succeded": 1}, {"succeeded": 0}, {"dead": -1}, {"dead": "90"}, {"running": 1}], ids=str
)
def test_a_misspelt_retention_is_refused(settings: Any, wrong: dict[str, Any]) -> None:
    assert not list(retention_check())
    settings.TASKRUNS_RETENTION = {**settings.TASKRUNS_RETENTION, **wrong}
    [error] = retention_check()
    assert "succeeded" in error.hint
