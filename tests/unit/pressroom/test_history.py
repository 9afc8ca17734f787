"""The partitions of a day are made ahead and dropped, and what must be kept is carried over."""

import datetime
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from pressroom import operator_actions, retention
from pressroom.models import LiveRun, Status, TaskAttempt, TaskCall, TaskRun
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.sql import ends, history, lost_attempts, runs, workers
from pressroom.uuid7 import uuid7_at
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

DAY = datetime.timedelta(days=1)


def call() -> TaskRun:
    return TaskRun.of(tasks.effect.delay("/dev/null", "x"))


def claimed(run: TaskRun) -> runs.Claim:
    worker = workers.register("one@x", "[]", 1)
    claim = runs.claim(run.pk, uuid.uuid4(), worker)
    assert claim is not None
    return claim


def dead() -> TaskRun:
    run = call()
    assert ends.fail(claimed(run), runs.Failure("KeyError", "'x'", ""), None)
    return run


def succeeded() -> TaskRun:
    run = call()
    assert ends.succeed(claimed(run), "null")
    return run


def drop_today() -> int:
    """Drop all days up to today. Successes are past their time, dead letters are not."""
    now = timezone.now()
    kept = dict.fromkeys(Status, now + DAY) | {Status.DEAD: now - DAY}
    return sum(history.drop_day(day, kept) for day in history.days() if day <= now.date())


@pytest.mark.django_db
class TestDrop:
    def test_what_is_past_its_time_goes_and_what_is_not_stays(self) -> None:
        gone, kept, live, running = succeeded(), dead(), call(), call()
        claim = claimed(running)
        retried = call()
        lost_attempts.lose_claim(retried.pk, claimed(retried).token)

        assert drop_today() == 1
        assert not history.days()[0] <= timezone.now().date()
        left = {kept.pk, live.pk, running.pk, retried.pk}
        assert set(TaskRun.objects.values_list("pk", flat=True)) == left
        assert set(TaskCall.objects.values_list("pk", flat=True)) == left
        assert set(TaskAttempt.objects.values_list("run_id", flat=True)) == {kept.pk, retried.pk}
        assert gone.pk not in left

        # All of it goes on as before.
        assert ends.succeed(claim, "7")
        assert TaskRun.objects.get(pk=running.pk).arguments == (["/dev/null", "x"], {})
        again = operator_actions.run_again(run=TaskRun.objects.get(pk=kept.pk), user=None)
        assert again.arguments == (["/dev/null", "x"], {})
        call()

    def test_the_rest_is_deleted_once_its_time_has_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        succeeded(), dead()
        waits = call()
        now = timezone.now()
        monkeypatch.setattr("django.utils.timezone.now", lambda: now + 9 * DAY)
        assert retention.prune() == 1
        assert TaskRun.objects.filter(status=Status.DEAD).count() == 1
        change_run(waits.pk, status=Status.SUCCEEDED, finished_at=now + 9 * DAY)
        monkeypatch.setattr("django.utils.timezone.now", lambda: now + 92 * DAY)
        assert retention.prune() == 2
        assert not TaskCall.objects.exists()
        assert not TaskAttempt.objects.exists()

    def test_nothing_is_dropped_early(self, monkeypatch: pytest.MonkeyPatch) -> None:
        succeeded()
        now = timezone.now()
        before = history.days()
        monkeypatch.setattr("django.utils.timezone.now", lambda: now + 6.9 * DAY)
        assert retention.prune() == 0
        assert history.days()[: len(before)] == before


@pytest.mark.django_db
class TestAhead:
    def test_the_next_days_are_made_once(self) -> None:
        today = timezone.now().date()
        assert set(history.days()) >= {today + number * DAY for number in range(history.AHEAD)}
        later = today + 30 * DAY
        assert len(history.make_ahead(later)) == history.AHEAD + 1
        assert history.make_ahead(later) == []

    def test_a_stray_call_is_told_and_moves_to_its_day(self) -> None:
        there = timezone.now() + 20 * DAY
        run = succeeded()
        change_run(run.pk, id=uuid7_at(there))
        assert read_ledger().stray_calls == 1
        history.make_ahead()
        assert read_ledger().stray_calls == 1
        history.make_ahead(there.date() + DAY)
        assert read_ledger().stray_calls == 0
        assert there.date() in history.days()
        assert TaskRun.objects.get().status == Status.SUCCEEDED

    def test_after_a_long_stop_the_calls_of_today_move_to_their_day(self) -> None:
        then = timezone.now() + 30 * DAY
        runs_ = [call() for _ in range(3)]
        for number, run in enumerate(runs_):
            change_run(run.pk, id=uuid.UUID(int=uuid7_at(then).int + number))
        assert read_ledger().stray_calls == 3
        assert then.date() in history.make_ahead(then.date())
        assert read_ledger().stray_calls == 0
        assert LiveRun.objects.count() == 3

    def test_a_status_is_looked_for_in_one_table(self) -> None:
        for status, table in ((Status.DEAD, "liverun"), (Status.QUEUED, "endedrun")):
            plan = TaskRun.objects.filter(status=status).order_by("-id")[:51].explain()
            assert f"taskruns_{table}" not in plan

    @pytest.mark.parametrize("key", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID(int=7)])
    def test_a_key_without_a_day_does_no_harm(self, key: uuid.UUID) -> None:
        change_run(call().pk, id=key)
        history.make_ahead(timezone.now().date() + 40 * DAY)
        assert TaskCall.objects.get().pk == key


class TestLocks:
    @pytest.fixture
    def elsewhere(self, transactional_db: None) -> Iterator[psycopg.Connection]:
        made = connection.get_connection_params()
        names = ("host", "port", "user", "password", "dbname")
        with psycopg.connect(**{name: made[name] for name in names if made.get(name)}) as other:
            yield other

    def test_a_caller_in_a_transaction_is_not_waited_for(
        self, elsewhere: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Everybody else would wait behind the one that waits."""
        monkeypatch.setattr(history, "ATTEMPTS", 2)
        elsewhere.execute(
            "INSERT INTO taskruns_taskcall (id, headers, body, properties) VALUES (%s, '', '', '')", [uuid.uuid4()]
        )
        before = history.days()
        with pytest.raises(OperationalError, match="lock timeout"):
            drop_today()
        assert history.days() == before
        elsewhere.rollback()
        call()
        monkeypatch.setattr(history, "ATTEMPTS", 20)
        with transaction.atomic():
            drop_today()
            assert history.days() != before
            transaction.set_rollback(True)

    def test_calls_go_on_while_the_next_day_is_made(self, elsewhere: psycopg.Connection) -> None:
        with transaction.atomic():
            history.make_ahead(timezone.now().date() + 50 * DAY)
            elsewhere.execute("SET lock_timeout = '5s'")
            from pressroom.uuid7 import uuid7

            elsewhere.execute(
                "INSERT INTO taskruns_taskcall (id, headers, body, properties) VALUES (%s, '', '', '')", [uuid7()]
            )
            transaction.set_rollback(True)
        elsewhere.rollback()
