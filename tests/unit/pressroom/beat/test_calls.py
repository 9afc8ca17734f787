"""A call that cannot be made, or whose transaction is refused, is its schedule's alone."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection
from django_celery_beat.models import (
    PeriodicTask,
    PeriodicTasks,
)  # fmt: skip

from pressroom.beat.scheduler import LedgerScheduler
from tests.unit.pressroom.beat.schedules import TABLE, a_round, fired, marks, row, sql

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Let each call of the schedule `odd` fail with an error."""
    plain = LedgerScheduler.apply_async

    def by(error: Exception) -> None:
        def call(self: LedgerScheduler, entry: Any, *args: Any, **kwargs: Any) -> Any:
            if entry.name == "odd":
                raise error
            return plain(self, entry, *args, **kwargs)

        monkeypatch.setattr(LedgerScheduler, "apply_async", call)

    return by


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), RecursionError("deep"), MemoryError(), IntegrityError("twice"), OperationalError("index")],
    ids=repr,
)
def test_a_call_that_cannot_be_made_is_marked_and_the_others_fire_on(
    scheduler: LedgerScheduler, refused: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = row("odd")
    row("the neighbour")
    refused(error)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert list(marks()) == ["odd"]
    assert type(error).__name__ in marks()["odd"]
    before, odd = odd.last_run_at, PeriodicTask.objects.get(pk=odd.pk)
    assert odd.last_run_at > before, "it has moved on, so it does not spin"
    monkeypatch.undo()
    PeriodicTask.objects.filter(pk=odd.pk).update(last_run_at=before)
    PeriodicTasks.update_changed()
    scheduler.app.conf.beat_schedule  # noqa: B018 - as it was
    a_round(scheduler)
    assert fired("odd") == 1
    assert marks() == {}


def test_a_commit_that_is_refused_is_the_schedule_s(
    scheduler: LedgerScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deferred constraint speaks at the commit: it was tried again for ever, and nothing else fired."""
    row("odd"), row("the neighbour")
    plain = LedgerScheduler.apply_async

    def call(self: LedgerScheduler, entry: Any, *args: Any, **kwargs: Any) -> Any:
        if entry.name == "odd":
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {TABLE} SET interval_id = 0 WHERE name = 'odd'")
        return plain(self, entry, *args, **kwargs)

    monkeypatch.setattr(LedgerScheduler, "apply_async", call)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert fired("odd") == 0
    assert "IntegrityError" in marks()["odd"]


def test_a_row_that_cannot_even_be_moved_on(scheduler: LedgerScheduler) -> None:
    """The count of its runs is the largest number that the column holds."""
    row("odd"), row("the neighbour")
    sql(f"UPDATE {TABLE} SET total_run_count = 2147483647 WHERE name = 'odd'")
    a_round(scheduler)
    a_round(scheduler)
    assert fired("the neighbour") == 1
    assert "integer out of range" in marks()["odd"]


def test_a_deadlock_is_tried_again_at_once(scheduler: LedgerScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    row("odd")
    plain, tries = LedgerScheduler.apply_async, []

    def call(self: LedgerScheduler, *args: Any, **kwargs: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$")
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(LedgerScheduler, "apply_async", call)
    a_round(scheduler)
    assert fired("odd") == 1
    assert marks() == {}


def test_an_error_of_no_schedule_does_not_end_beat(
    scheduler: LedgerScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    row("one")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE taskruns_brokenschedule RENAME TO away")
    try:
        assert scheduler.tick() == scheduler.tick() == 1.0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO taskruns_brokenschedule")
    assert caplog.text.count("no tick: ") == 1
    a_round(scheduler)
    assert fired("one") == 1
