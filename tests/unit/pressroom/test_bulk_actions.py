"""Actions on all runs that match a filter: what they change and leave alone, in batches, through errors and kills."""

from __future__ import annotations

import datetime
import io
import json
import threading
import uuid
from typing import Any

import pytest
from celery import chord
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from app.accounts.models import User
from pressroom import operator_actions
from pressroom.bulk import executor, orders
from pressroom.bulk.executor import work_once
from pressroom.enqueue.broker import broker_client
from pressroom.enqueue.envelope import envelope
from pressroom.models import BulkAction, EndedRun, Held, LiveRun, Status, TaskCall, TaskGroup, TaskRun
from pressroom.operator_actions import NotPossible
from pressroom.process import kill_points
from pressroom.sql import dispatch, ends, limits, runs, workers
from pressroom.sql.run_filter import RunFilter
from pressroom.uuid7 import uuid7_at
from tests.support.ledger_rows import change_run, make_run
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)
Kind, State = BulkAction.Kind, BulkAction.State


@pytest.fixture
def anna() -> User:
    return User.objects.create_superuser("anna", "anna@example.com")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "BATCH", 3)
    monkeypatch.setattr(executor, "LOOKED_THROUGH", 5)


def call(*arguments: Any, **options: Any) -> TaskRun:
    return TaskRun.of(tasks.effect.apply_async(arguments or ("/dev/null", "x"), **options))


def calls(number: int, **options: Any) -> list[TaskRun]:
    return [call(**options) for _ in range(number)]


def claim(run: TaskRun) -> runs.Claim:
    claimed = runs.claim(run.pk, uuid.uuid4(), workers.register("test@here", '["default"]', 2))
    assert claimed is not None
    return claimed


def kill(run: TaskRun, error: str = "KeyError") -> TaskRun:
    assert ends.fail(claim(run), runs.Failure(error, "'x'", ""), None)
    run.refresh_from_db()
    return run


def order(kind: str, wanted: RunFilter = RunFilter(), user: Any = None, **target: Any) -> BulkAction:  # noqa: B008
    return orders.order(kind=kind, wanted=wanted, user=user, **target)


def work(action: BulkAction) -> BulkAction:
    while work_once():
        pass
    action.refresh_from_db()
    return action


def statuses(*of: TaskRun) -> list[str]:
    found = dict(TaskRun.objects.filter(pk__in=[run.pk for run in of]).values_list("pk", "status"))
    return [found.get(run.pk, "gone") for run in of]


class TestOrder:
    def test_it_cancels_what_matches_and_nothing_else(self, anna: User) -> None:
        these, others = calls(11), calls(4, queue="emails")
        running, done = call(), call()
        held = claim(running)
        assert ends.succeed(claim(done), None)
        action = work(order(Kind.CANCEL, RunFilter(queue="default"), anna))
        assert (action.state, action.total, action.done, action.skipped, action.failed) == ("done", 12, 12, 0, 0)
        assert statuses(*these) == ["cancelled"] * 11
        assert statuses(*others, done) == ["queued"] * 4 + ["succeeded"]
        assert runs.is_cancel_requested(held)
        assert action.ended_at is not None
        assert action.summary == "12 changed"
        told = list(LogEntry.objects.order_by("pk").values_list("user__username", "change_message", "object_id"))
        assert told == [
            ("anna", "ordered: Cancel: queue default", str(action.pk)),
            ("anna", "cancelled, or asked to stop: 12 changed", str(action.pk)),
        ]

    def test_it_leaves_alone_what_comes_later(self) -> None:
        first = call()
        action = order(Kind.CANCEL)
        later = call()
        # By a process whose clock is late: its key is older than the order.
        late_clock = call()
        change_run(late_clock.pk, id=uuid7_at(timezone.now() - datetime.timedelta(minutes=5)))
        # And one whose clock is ahead, called before.
        ahead = uuid7_at(timezone.now() + datetime.timedelta(minutes=5))
        change_run(first.pk, id=ahead)
        assert work(action).done == 1
        assert TaskRun.objects.get(pk=ahead).status == Status.CANCELLED
        assert TaskRun.objects.filter(status=Status.QUEUED).count() == 2
        assert statuses(later) == ["queued"]

    def test_what_ends_later_is_no_dead_letter_of_it(self) -> None:
        before, after = kill(call()), call()
        action = order(Kind.DISCARD)
        kill(after)
        assert work(action).done == 1
        assert statuses(before, after) == ["gone", "dead"]

    def test_the_same_action_twice_is_refused_until_the_first_has_ended(self) -> None:
        calls(2)
        action = order(Kind.CANCEL, RunFilter(queue="default"))
        with pytest.raises(NotPossible, match=f"under way, as number {action.pk}"):
            order(Kind.CANCEL, RunFilter(queue="default"))
        order(Kind.CANCEL, RunFilter(queue="emails"))
        work(action)
        assert work(order(Kind.CANCEL, RunFilter(queue="default"))).done == 0

    def test_only_so_many_are_under_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(orders, "MOST_OPEN", 2)
        order(Kind.CANCEL)
        order(Kind.DISCARD)
        with pytest.raises(NotPossible, match="2 actions are under way"):
            order(Kind.RUN_AGAIN)

    @pytest.mark.parametrize(
        ("kind", "target", "reason"),
        [
            ("explode", {}, "There is no action 'explode'"),
            ("cancel", {"queue": "emails"}, "Only moving takes a queue"),
            ("discard", {"priority": 3}, "Only moving takes a queue"),
            ("move", {}, "Give a queue, a priority or both"),
            ("move", {"queue": "nowhere"}, "There is no queue 'nowhere'"),
            ("move", {"queue": "\x00"}, "There is no queue"),
            ("move", {"priority": 256}, "not a whole number"),
        ],
    )
    def test_what_cannot_be_done_is_refused(self, kind: str, target: dict[str, Any], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            order(kind, **target)
        assert not BulkAction.objects.exists()

    def test_the_estimate_is_what_it_will_meet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls(4)
        kill(call())
        assert orders.estimate(Kind.CANCEL, RunFilter()) == (4, False)
        assert orders.estimate(Kind.DISCARD, RunFilter()) == (1, False)
        assert orders.estimate(Kind.DISCARD, RunFilter(status="queued")) == (0, False)
        assert orders.estimate(Kind.RUN_NOW, RunFilter()) == (0, False)
        assert orders.estimate(Kind.MOVE, RunFilter()) == (4, False), "it is not said yet where to"
        assert orders.estimate(Kind.MOVE, RunFilter(), "default") == (0, False)
        monkeypatch.setattr(orders, "COUNTED", 3)
        assert orders.estimate(Kind.CANCEL, RunFilter()) == (3, True)

    def test_each_condition_narrows_it(self, anna: User) -> None:
        run = call("/dev/null", "wanted")
        call()
        for wanted in (RunFilter(text="wanted"), RunFilter(key=str(run.pk)), RunFilter(key=run.celery_id)):
            assert orders.estimate(Kind.CANCEL, wanted) == (1, False), wanted
        assert work(order(Kind.CANCEL, RunFilter(key=run.celery_id))).done == 1
        assert statuses(run) == ["cancelled"]


class TestCancel:
    def test_hooks_chords_and_chains_hear_of_it(self) -> None:
        Group.objects.all().delete()
        tasks.waited.delay("/dev/null", "")
        chord([tasks.effect.s("/dev/null", "1"), tasks.effect.s("/dev/null", "2")])(tasks.effect.si("/dev/null", "all"))
        assert TaskGroup.objects.count() == 1
        assert work(order(Kind.CANCEL)).done == 3
        assert Group.objects.filter(name__startswith="told cancelled").count() == 1
        # The chord has failed, so its body is decided.
        assert TaskGroup.objects.get().done == 2 or TaskGroup.objects.get().fired

    def test_an_error_with_one_run_is_that_runs_own(self) -> None:
        run = [TaskRun.of(tasks.waited.delay("/dev/null", "")) for _ in range(3)][1]
        # Its hook cannot be called with such arguments.
        TaskCall.objects.filter(pk=run.pk).update(body="not JSON")
        action = work(order(Kind.CANCEL))
        assert (action.state, action.done, action.failed) == ("done", 2, 1)
        [(reason, number)] = action.reasons.items()
        assert reason.startswith("JSONDecodeError")
        assert number == 1
        assert statuses(run) == ["queued"]


class TestRunAgain:
    def test_each_dead_cancelled_and_expired_run_once(self, anna: User) -> None:
        dead = [kill(call()) for _ in range(7)]
        cancelled = call()
        operator_actions.run_cancel(run=cancelled, user=None)
        again = operator_actions.run_again(run=dead[0], user=None)
        operator_actions.run_cancel(run=again, user=None)
        action = work(order(Kind.RUN_AGAIN, RunFilter(), anna))
        assert (action.done, action.skipped) == (8, 1)
        assert action.reasons == {"It was run again already.": 1}
        new = TaskRun.objects.filter(retry_of__in=[run.pk for run in dead])
        assert new.count() == 7
        assert {run.celery_id for run in new} == {run.celery_id for run in dead}
        assert new.filter(status=Status.QUEUED).count() == 6
        assert json.loads(new.order_by("-pk")[0].body)[0] == ["/dev/null", "x"]
        # And once more: nothing is left that was not run again.
        action = work(order(Kind.RUN_AGAIN, RunFilter(status="dead")))
        assert (action.done, action.skipped) == (0, 7)

    def test_a_run_with_a_limit_waits_in_its_lane(self) -> None:
        run = TaskRun.of(tasks.limited_effect.delay("/dev/null", "seven", 1))
        change_run(run.pk, held=None)
        kill(run)
        assert work(order(Kind.RUN_AGAIN)).done == 1
        new = LiveRun.objects.get(retry_of=run.pk)
        assert (new.held, new.lane) == (Held.ARRIVED, 'probe.limited_effect\x1f"seven"')

    def test_the_hook_hears_of_it(self) -> None:
        run = TaskRun.of(tasks.waited.delay("/dev/null", ""))
        kill(run)
        work(order(Kind.RUN_AGAIN))
        assert Group.objects.filter(name=f"told restarted {run.celery_id}").exists()


class TestRunNow:
    def test_what_is_due_later_is_due_now(self) -> None:
        later = calls(5, countdown=3600)
        due = call()
        action = work(order(Kind.RUN_NOW))
        assert (action.total, action.done) == (5, 5)
        assert not LiveRun.objects.filter(run_at__gt=timezone.now()).exists()
        assert statuses(*later, due) == ["queued"] * 6
        assert len(dispatch.take_due({"default": 100})) == 6

    def test_a_retry_is_due_now(self) -> None:
        run = call()
        change_run(run.pk, status=Status.RETRYING, run_at=timezone.now() + datetime.timedelta(hours=1))
        operator_actions.run_now(run=run, user=None)
        run.refresh_from_db()
        assert run.run_at <= timezone.now()
        with pytest.raises(NotPossible, match="waits for a later time"):
            operator_actions.run_now(run=run, user=None)


class TestMove:
    def test_waiting_runs_get_another_queue_and_priority(self, anna: User) -> None:
        waiting, running = calls(5), call()
        claim(running)
        there = call(queue="emails", priority=2)
        action = work(order(Kind.MOVE, RunFilter(), anna, queue="emails", priority=2))
        assert (action.total, action.done, action.skipped) == (5, 5, 0)
        moved = TaskRun.objects.filter(pk__in=[run.pk for run in waiting])
        assert set(moved.values_list("queue", "priority")) == {("emails", 2)}
        assert TaskRun.objects.get(pk=running.pk).queue == "default"
        assert {row.run_id for row in dispatch.take_due({"default": 9, "emails": 9})} == {
            run.pk for run in (*waiting, there)
        }

    def test_its_message_leaves_the_old_queue(self, redis_server: Any) -> None:
        run, other = calls(2)
        client = broker_client(5.0)
        client.delete("default", "emails")
        for row in dispatch.take_due({"default": 9}):
            client.lpush("default", envelope(row.queue, row.headers, row.body, row.properties, row.run_id))
        operator_actions.run_move(run=run, user=None, queue="emails")
        assert client.llen("default") == 1
        [published] = dispatch.take_due({"default": 9, "emails": 9})
        assert (published.run_id, published.queue) == (run.pk, "emails")
        assert LiveRun.objects.get(pk=other.pk).published_at is not None
        client.delete("default")

    def test_a_place_of_a_limit_is_freed_and_asked_for_anew(self) -> None:
        limits.sync([limits.Limit("task", "probe.limited_effect", 1, None, None)])
        first, second = (TaskRun.of(tasks.limited_effect.delay("/dev/null", "a", 1)) for _ in range(2))
        windows = {"default": 9, "emails": 9}
        assert [row.run_id for row in dispatch.take_due(windows)] == [first.pk]
        assert not dispatch.take_due(windows)
        operator_actions.run_move(run=first, user=None, priority=9)
        assert [row.run_id for row in dispatch.take_due(windows)] == [second.pk], "it is more urgent now"
        operator_actions.run_move(run=first, user=None, queue="emails")
        assert not dispatch.take_due(windows)
        assert ends.succeed(claim(second), None)
        [row] = dispatch.take_due(windows)
        assert (row.run_id, row.queue) == (first.pk, "emails")

    def test_a_paused_run_is_moved_out_of_its_queues_pause(self) -> None:
        operator_actions.pause(kind="queue", name="default", user=None)
        run = call()
        change_run(run.pk, held=Held.PAUSED)
        operator_actions.run_move(run=run, user=None, queue="emails")
        assert [row.run_id for row in dispatch.take_due({"default": 9, "emails": 9})] == [run.pk]

    def test_what_runs_is_not_moved(self) -> None:
        run = call()
        claim(run)
        with pytest.raises(NotPossible, match="Only a waiting run"):
            operator_actions.run_move(run=run, user=None, queue="emails")
        with pytest.raises(ValueError, match="There is no queue"):
            operator_actions.run_move(run=run, user=None, queue="nowhere")


def test_dead_letters_are_discarded_with_what_belongs_to_them() -> None:
    dead, other = [kill(call()) for _ in range(7)], kill(call(), "ValueError")
    hooked = kill(TaskRun.of(tasks.waited.delay("/dev/null", "")))
    action = work(order(Kind.DISCARD, RunFilter(error_type="KeyError")))
    assert action.done == 8
    assert list(EndedRun.objects.values_list("pk", flat=True)) == [other.pk]
    assert not TaskCall.objects.filter(pk__in=[run.pk for run in dead]).exists()
    assert Group.objects.filter(name=f"told discarded {hooked.celery_id}").exists()


class Killed(BaseException):
    """The process is gone."""


class TestKilled:
    def test_a_batch_is_done_whole_or_not_at_all_and_the_next_process_continues(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Run again is the action that would be seen to happen twice."""
        dead = [kill(call()) for _ in range(8)]
        action = order(Kind.RUN_AGAIN)
        reached = 0

        def reach(point: str) -> None:
            nonlocal reached
            if point == "bulk.acted":
                reached += 1
                if reached in (1, 3):
                    raise Killed

        monkeypatch.setattr(kill_points, "reach", reach)
        deaths = 0
        for _ in range(50):
            try:
                if not work_once():
                    break
            except Killed:
                deaths += 1
                new = TaskRun.objects.filter(retry_of__isnull=False).count()
                action.refresh_from_db()
                assert new == action.done, "what was done is counted in the same transaction"
        assert deaths == 2
        action.refresh_from_db()
        assert (action.state, action.done, action.skipped) == ("done", 8, 0)
        assert sorted(TaskRun.objects.filter(retry_of__isnull=False).values_list("retry_of", flat=True)) == sorted(
            run.pk for run in dead
        )

    def test_two_relays_do_not_meet(self) -> None:
        calls(2)
        order(Kind.CANCEL)
        seen: list[bool] = []

        def other() -> None:
            seen.append(work_once())
            connection.close()

        with transaction.atomic():
            assert work_once()
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(60)
        assert seen == [False]


class TestStop:
    def test_it_stops_between_two_batches(self, anna: User) -> None:
        called = calls(9)
        action = order(Kind.CANCEL)
        while not TaskRun.objects.filter(status=Status.CANCELLED).exists():
            work_once()
        orders.stop(action=action, user=anna)
        assert not work_once()
        action.refresh_from_db()
        assert (action.state, action.done) == (State.CANCELLED, 3)
        assert sorted(statuses(*called)) == ["cancelled"] * 3 + ["queued"] * 6
        with pytest.raises(NotPossible, match="already ended"):
            orders.stop(action=action, user=anna)
        assert LogEntry.objects.get().change_message == "stopped: 3 changed"

    def test_an_action_that_cannot_be_understood_fails_alone(self) -> None:
        calls(2)
        broken, good = order(Kind.CANCEL, RunFilter(queue="emails")), order(Kind.CANCEL)
        BulkAction.objects.filter(pk=broken.pk).update(filter={"of a later release": 1})
        work(good)
        broken.refresh_from_db()
        assert (broken.state, good.done) == (State.FAILED, 2)
        assert "of a later release" in broken.error


def test_a_history_is_looked_through_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that do not match lie between those that do: no batch sees more than its bound."""
    wanted = []
    for number in range(30):
        run = make_run(
            id=uuid7_at(timezone.now() - datetime.timedelta(minutes=number + 1)), celery_id=str(uuid.uuid4()),
            name="probe.effect", queue="default", status="dead", error_type="KeyError" if number % 7 == 3 else "Other",
            created_at=timezone.now(), run_at=timezone.now(),
        )  # fmt: skip
        wanted += [run] if number % 7 == 3 else []
    action = work(order(Kind.DISCARD, RunFilter(error="keyerr")))
    assert (action.total, action.done) == (len(wanted), len(wanted))
    assert statuses(*wanted) == ["gone"] * len(wanted)
    assert TaskRun.objects.count() == 30 - len(wanted)


class TestCommand:
    def test_it_orders_and_tells_the_progress(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls(4)
        monkeypatch.setattr("pressroom.management.commands.tasks.time.sleep", lambda _: work_once())
        out = io.StringIO()
        call_command("tasks", "cancel", "--queue", "default", stdout=out)
        assert out.getvalue().splitlines()[-1] == "done: 4 changed"
        out = io.StringIO()
        call_command("tasks", "count", "--all", stdout=out)
        assert out.getvalue().split()[:4] == ["cancel:", "0", "run-again:", "4"]

    @pytest.mark.parametrize(
        "arguments",
        [["cancel"], ["cancel", "--all", "--queue", "default"], ["cancel", "--queue", "nowhere"],
         ["cancel", "--since", "0001-01-01"], ["move", "--all"], ["move", "--all", "--to-queue", "nowhere"],
         ["move", "--all", "--to-priority", "1000"], ["cancel", "--owner", "nobody"], ["cancel", "--error", "\0"]],
    )  # fmt: skip
    def test_what_is_not_valid_is_refused(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError):
            call_command("tasks", *arguments)
        assert not BulkAction.objects.exists()
