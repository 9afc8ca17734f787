"""The figures of what has ended: each run is counted once, whatever becomes of it."""

from __future__ import annotations

import datetime
import random
import re
import statistics
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from pressroom import operator_actions
from pressroom.models import EndedRun, Figure, FiguresMark, Status, TaskRun, UncountedRun
from pressroom.operations.past import SPANS, Past, past
from pressroom.relay.counting import EndedRunCounter
from pressroom.sql import backlog, figures, functions, history, runs, workers
from tests.support.ledger_rows import make_run

pytestmark = pytest.mark.django_db


def ended(
    seconds_ago: float, status: str = "succeeded", wait: float = 1.0, runtime: float = 1.0, **more: Any
) -> TaskRun:
    """Store a run that ended so long ago."""
    at = timezone.now() - datetime.timedelta(seconds=seconds_ago)
    began = at - datetime.timedelta(seconds=runtime)
    due = began - datetime.timedelta(seconds=wait)
    number = EndedRun.objects.count()
    fields = {"name": "probe.effect", "queue": "default"} | more
    return make_run(
        celery_id=str(number), status=status, created_at=due, run_at=due, started_at=began, finished_at=at, **fields
    )


def ended_late(seconds_ago: float) -> None:
    """Have a slot store a run now that ended so long ago."""
    token, worker = uuid.uuid4(), workers.register("w@h", '["default"]', 1)
    due = timezone.now() - datetime.timedelta(seconds=seconds_ago + 2)
    run = make_run(
        celery_id=str(token), status="running", claim=token, worker_id=worker, name="probe.effect", queue="default",
        created_at=due, run_at=due, started_at=due, attempt=1,
    )  # fmt: skip
    claim = runs.Claim(run.pk, token, 1, None)
    success = backlog.SuccessToWrite(claim, "null", None, seconds_ago + 1, seconds_ago)
    assert backlog.finish_and_claim(token, worker, "default", 0, [success], [], [], "", 0) == ({run.pk}, [])
    late = UncountedRun.objects.filter(run_id=run.pk, finished_at__lt=timezone.now() - datetime.timedelta(seconds=5))
    assert late.count() == 1


def test_the_database_knows_what_is_late_as_we_do() -> None:
    source = functions.source("finish_and_claim")
    assert re.findall(r"has_ended AND (\d+) < ANY\(ended\)|m\.ended > (\d+)", source) == [
        (str(figures.LATE), ""), ("", str(figures.LATE))
    ]  # fmt: skip


def mark(seconds_ago: float) -> None:
    """Say that all that ended before is counted."""
    until = timezone.now() - datetime.timedelta(seconds=seconds_ago)
    FiguresMark.objects.update_or_create(pk=1, defaults={"until": until})
    UncountedRun.objects.all().delete()


def count_all(seconds_ago: float = 0.0) -> None:
    until = timezone.now() - datetime.timedelta(seconds=seconds_ago)
    while figures.count_ended(until):
        pass


def totals(shown: Past) -> tuple[int, int]:
    return sum(step.succeeded for step in shown.steps), sum(step.dead for step in shown.steps)


class TestEachRunOnce:
    def test_before_and_after_it_is_counted(self) -> None:
        for seconds in (30, 90, 150, 3 * 3600, 2 * 86_400):
            ended(seconds)
        ended(60, "dead")
        ended(70, "cancelled")
        uncounted = {key: past(span) for key, span in SPANS.items()}
        count_all()
        assert FiguresMark.objects.exists()
        assert not UncountedRun.objects.exists()
        for key, span in SPANS.items():
            counted = past(span)
            assert totals(counted) == totals(uncounted[key])
            assert counted.tasks == uncounted[key].tasks
        assert [totals(past(SPANS[key])) for key in ("1h", "24h", "7d")] == [(3, 1), (4, 1), (5, 1)]
        [task] = past(SPANS["7d"]).tasks
        assert (task.name, task.succeeded, task.dead, task.other) == ("probe.effect", 5, 1, 1)
        before = list(Figure.objects.order_by("pk").values_list())
        count_all()
        assert list(Figure.objects.order_by("pk").values_list()) == before

    def test_a_count_that_is_killed_has_counted_nothing(self) -> None:
        ended(30)
        mark(3600)
        with transaction.atomic():
            count_all()
            assert Figure.objects.exists()
            transaction.set_rollback(True)
        assert not Figure.objects.exists()
        assert totals(past(SPANS["1h"])) == (1, 0)
        count_all()
        assert totals(past(SPANS["1h"])) == (1, 0)

    def test_in_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(figures, "SLICE", 2)
        mark(3600)
        for seconds in range(10, 17):
            ended(seconds)
            ended(seconds, queue="emails")
        until, rounds = timezone.now(), 1
        while figures.count_ended(until):
            rounds += 1
        assert rounds > 2
        assert totals(past(SPANS["1h"])) == (14, 0)

    def test_many_that_ended_in_the_same_microsecond(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(figures, "SLICE", 2)
        mark(3600)
        for _ in range(6):
            ended(20)
        EndedRun.objects.update(finished_at=timezone.now() - datetime.timedelta(seconds=20))
        count_all()
        assert totals(past(SPANS["1h"])) == (6, 0)

    def test_one_that_is_stored_long_after_its_end(self) -> None:
        """A bundle whose finish could not be written tells its ends when it can."""
        mark(10)
        ended_late(300)
        ended_late(7)
        assert totals(past(SPANS["1h"])) == (2, 0)
        count_all(8)
        assert totals(past(SPANS["1h"])) == (2, 0)
        count_all()
        assert totals(past(SPANS["1h"])) == (2, 0)
        assert not UncountedRun.objects.exists()

    def test_a_discarded_one_stays_in_the_picture_of_the_past(self, admin_user: Any) -> None:
        mark(300)
        counted, fresh = ended(120, "dead"), ended(2, "dead")
        count_all(60)
        assert totals(past(SPANS["1h"])) == (0, 2)
        for run in (counted, fresh):
            operator_actions.run_discard(run=run, user=admin_user)
            assert totals(past(SPANS["1h"])) == (0, 2)
        assert not EndedRun.objects.exists()
        count_all()
        assert totals(past(SPANS["1h"])) == totals(past(SPANS["7d"])) == (0, 2)
        assert [task.dead for task in past(SPANS["24h"]).tasks] == [2]

    def test_one_that_is_discarded_after_it_was_counted_is_not_counted_again(self) -> None:
        mark(60)
        run = ended(2, "dead")
        count_all()
        history.delete_runs([run.pk])
        assert not UncountedRun.objects.exists()
        count_all()
        assert totals(past(SPANS["1h"])) == (0, 1)

    def test_hours_outlive_the_runs_and_minutes_do_not(self) -> None:
        mark(9 * 86_400)
        for days in (8.5, 7.9, 1):
            ended(days * 86_400)
        ended(3 * 3600)
        count_all()
        EndedRun.objects.all().delete()
        assert sorted({figure.minutes for figure in Figure.objects.all()}) == [60]
        kept = Figure.objects.filter(kind="succeeded").order_by("at")
        assert [figure.number for figure in kept] == [1, 1, 1]
        assert totals(past(SPANS["7d"])) == (2, 0)


@pytest.mark.django_db(transaction=True)
class TestBesideOthers:
    @pytest.fixture
    def other(self) -> Iterator[psycopg.Connection]:
        """Another session of the database."""
        settings = connection.get_connection_params()
        kept = {name: settings[name] for name in ("dbname", "host", "port", "user", "password") if settings.get(name)}
        with psycopg.connect(**kept) as session:
            yield session
            session.rollback()

    def test_two_do_not_count_at_the_same_time(self, other: psycopg.Connection) -> None:
        mark(60)
        ended(10)
        other.execute("SELECT until FROM taskruns_figuresmark FOR UPDATE")
        assert not figures.count_ended(timezone.now())
        assert not Figure.objects.exists()
        other.rollback()
        count_all()
        assert totals(past(SPANS["1h"])) == (1, 0)

    def test_what_an_open_transaction_ended_is_waited_for(
        self, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "LATE", 0)
        mark(60)
        run = ended(10)
        UncountedRun.objects.all().delete()
        other.execute("UPDATE taskruns_endedrun SET finished_at = clock_timestamp()")
        counter = EndedRunCounter()
        for now in (0.0, 20.0, 40.0):
            counter.tick(now)
        until = FiguresMark.objects.get().until
        other.commit()
        assert EndedRun.objects.get(pk=run.pk).finished_at >= until
        for now in (60.0, 80.0, 100.0):
            counter.tick(now)
        assert FiguresMark.objects.get().until > EndedRun.objects.get(pk=run.pk).finished_at
        assert [figure.number for figure in Figure.objects.filter(kind="succeeded", minutes=60)] == [1]

    def test_a_transaction_that_never_ends_is_not_waited_for_without_end(
        self, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "LATE", 0)
        mark(60)
        ended(10)
        other.execute("SELECT pg_current_xact_id()")
        counter = EndedRunCounter()
        for now in (0.0, 20.0, EndedRunCounter.LONGEST_WAIT - 1):
            counter.tick(now)
        assert not Figure.objects.exists()
        counter.tick(EndedRunCounter.LONGEST_WAIT + 20)
        assert Figure.objects.exists()


@pytest.mark.parametrize("scale", [0.0004, 0.02, 3.0, 4_000.0])
def test_percentiles_are_right_within_a_fifth(scale: float) -> None:
    drawn = random.Random(scale)
    waits = [drawn.lognormvariate(0, 1) * scale for _ in range(400)]
    for wait in waits:
        ended(30, wait=wait, runtime=wait / 2)
    exact = statistics.quantiles(waits, n=100, method="inclusive")
    [task] = past(SPANS["1h"]).tasks
    for shown, half, true in (
        (task.wait.p50, task.runtime.p50, exact[49]),
        (task.wait.p95, task.runtime.p95, exact[94]),
        (task.wait.p99, task.runtime.p99, exact[98]),
    ):
        # Up to the first bucket's end a wait is a wait of no time.
        assert shown == pytest.approx(true, rel=0.2, abs=figures.SHORTEST)
        assert half == pytest.approx(true / 2, rel=0.2, abs=figures.SHORTEST)
    assert figures.percentile({}, 0.5) is None


def test_what_a_page_does_not_read_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    mark(60)
    for seconds in (10, 20, 30):
        ended(seconds)
    assert past(SPANS["1h"]).missing_since is None
    monkeypatch.setattr(figures, "UNCOUNTED", 2)
    assert past(SPANS["1h"]).missing_since == FiguresMark.objects.get().until
    assert totals(past(SPANS["1h"])) == (2, 0)


def test_a_run_that_ended_without_a_start_has_no_wait() -> None:
    run = ended(10, Status.EXPIRED)
    EndedRun.objects.filter(pk=run.pk).update(started_at=None)
    [task] = past(SPANS["1h"]).tasks
    assert (task.other, task.wait.p50, task.runtime.p50) == (1, None, None)
