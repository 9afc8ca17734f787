"""Limits that an operator changes while the site runs, and limits of a whole queue."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from celery import shared_task
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from pressroom import operator_actions
from pressroom.enqueue import limits as limit_options
from pressroom.models import Held, Limit, LiveRun, Start, TaskCall, TaskRun
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.operations.held import standing, waits_for
from pressroom.operations.search import find
from pressroom.operator_actions import NotPossible
from pressroom.queues import parsed_rate, rate_as_text
from pressroom.sql import calls, dispatch, ends, limits, runs, workers
from pressroom.sql.run_filter import RunFilter
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks
from tests.unit.pressroom.test_bundle import Slot, ids

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "probe.changed"


@shared_task(name=NAME, concurrency=2, key="account")
def changed(account: Any) -> None:
    """Does nothing."""


@pytest.fixture(autouse=True)
def _synced(transactional_db: None) -> None:
    sync()


def sync() -> None:
    limits.sync(limit_options.limits_of([changed]))


def publish(window: int = 100) -> list[uuid.UUID]:
    return [row.run_id for row in dispatch.take_due({"default": window, "emails": window})]


def claim(run_id: uuid.UUID) -> runs.Claim:
    found = runs.claim(run_id, uuid.uuid4(), workers.register("w@h", "[]", 1))
    assert found is not None
    return found


def end(run_id: uuid.UUID) -> None:
    assert ends.succeed(claim(run_id), "null")


def called(count: int, task: Any = changed, account: Any = 1, **options: Any) -> list[uuid.UUID]:
    arguments = (account,) if task is changed else ("nowhere", "x")
    with transaction.atomic():
        results = [task.apply_async(arguments, **options) for _ in range(count)]
    return [TaskRun.of(result).pk for result in results]


def set_limit(**values: Any) -> Limit:
    given: dict[str, Any] = {"kind": "task", "name": NAME, "concurrency": None, "rate": None, "user": None}
    return operator_actions.limit_set(**given | values)


# ---- By an operator --------------------------------------------------------------------------------------------------


def test_a_changed_limit_holds_at_once_and_through_deploys() -> None:
    six = called(6)
    assert publish() == six[:2]
    assert not publish()
    set_limit(concurrency=4)
    assert publish() == six[2:4]
    # Each process of each release writes its code again and again.
    sync()
    limits.sync([limits.Limit("task", NAME, 1, None, None)])
    assert not publish()
    limit = Limit.objects.get(name=NAME)
    assert (limit.in_force, limit.of_code) == ("4 at once", "1 at once")
    operator_actions.limit_reset(kind="task", name=NAME, user=None)
    for run in six[:3]:
        end(run)
        assert not publish()
    end(six[3])
    assert publish() == six[4:5]


def test_no_limit_at_all_lets_everything_go_and_a_rate_can_be_added() -> None:
    five = called(5)
    publish()
    set_limit()
    assert publish() == five[2:]
    set_limit(rate="2/m")
    more = called(3)
    for run in five:
        end(run)
    # The five starts were made under the rate.
    assert not publish()
    Start.objects.update(at=timezone.now() - timedelta(minutes=2))
    set_limit(rate="2/m")
    assert publish() == more[:2]


def test_a_limit_of_an_operator_outlives_the_code_that_had_one() -> None:
    set_limit(concurrency=1)
    Limit.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    limits.sync([])
    limit = Limit.objects.get(name=NAME)
    assert (limit.in_force, limit.of_code) == ("1 at once", "no limit")
    sync()
    assert Limit.objects.get(name=NAME).of_code == "2 at once"


def test_who_did_it_is_recorded() -> None:
    user = get_user_model().objects.create_superuser("anna", "anna@example.com", "x")
    set_limit(concurrency=5, rate="100/m", user=user)
    assert Limit.objects.get(name=NAME).set_by == user
    operator_actions.limit_reset(kind="task", name=NAME, user=user)
    told = LogEntry.objects.order_by("pk").values_list("change_message", "object_repr")
    assert list(told) == [
        ("set to 5 at once, 100/m", f"the limit of the task {NAME}"),
        ("reset to 2 at once", f"the limit of the task {NAME}"),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"concurrency": 0}, {"concurrency": -1}, {"concurrency": True}, {"concurrency": 1.5}, {"concurrency": 10**7},
        {"rate": ""}, {"rate": "fast"}, {"rate": "0/m"}, {"rate": "\x00"},
    ],
)  # fmt: skip
def test_what_cannot_be_a_limit_changes_nothing(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"concurrency=|rate="):
        set_limit(**values)
    assert Limit.objects.get(name=NAME).set_at is None


@pytest.mark.parametrize(("kind", "name"), [("task", "no.such"), ("queue", "default"), ("key", NAME), ("task", "\x00")])
def test_a_limit_that_the_code_does_not_have_cannot_be_set(kind: str, name: str) -> None:
    with pytest.raises(NotPossible):
        set_limit(kind=kind, name=name, concurrency=1)
    with pytest.raises(NotPossible):
        operator_actions.limit_reset(kind=kind, name=name, user=None)


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("flow", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_changes_what_is_given_and_lists_it() -> None:
    command("limit", "task", NAME, "--rate", "100/m")
    assert Limit.objects.get(name=NAME).in_force == "2 at once, 100/m"
    command("limit", "task", NAME, "--concurrency", "none")
    assert Limit.objects.get(name=NAME).in_force == "100/m"
    assert f"task  {NAME}  100/m, set at" in command("list")
    assert "the code: 2 at once" in command("list")
    command("reset", "task", NAME)
    assert f"task  {NAME}  2 at once\n" in command("list")


@pytest.mark.parametrize(
    "arguments",
    [("limit", "task", NAME), ("limit", "task", NAME, "--rate", "x"), ("limit", "task", "no", "--concurrency", "1"),
     ("limit", "task", NAME, "--concurrency", "many"), ("reset", "task", NAME)],
)  # fmt: skip
def test_a_wrong_command_says_why(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        command(*arguments)
    assert Limit.objects.get(name=NAME).set_at is None


@pytest.mark.parametrize("rate", ["100/m", "5/10s", "1/h", "7/2d", "3/90s", "1/s"])
def test_a_rate_is_written_as_it_was_read(rate: str) -> None:
    assert rate_as_text(*parsed_rate(rate)) == rate


def test_a_relay_at_work_does_not_close_a_lane_by_the_old_limit() -> None:
    """Whoever changes a limit waits for the relay's transaction, and has it look at the lanes once more."""
    called(4)
    with connection.cursor() as cursor:
        publish()
        set_limit(concurrency=4)
        cursor.execute("SELECT count(*) FROM taskruns_lane WHERE NOT is_ready")
        assert cursor.fetchone() == (0,)


# ---- Of a queue ------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(settings: Any) -> None:
    """The queue of mails has a limit of three at once."""
    limited(settings, most_at_once=3)


def limited(settings: Any, **limit: Any) -> None:
    settings.TASKRUNS_QUEUES = [
        dataclasses.replace(queue, **limit) if queue.name == "emails" else queue for queue in settings.TASKRUNS_QUEUES
    ]
    sync()


def test_a_queue_has_so_many_at_once_whatever_the_tasks(narrow: None) -> None:
    plain = called(3, tasks.effect, queue="emails")
    of_key = called(3, queue="emails")
    elsewhere = called(4, tasks.effect)
    taken = publish()
    assert set(elsewhere) <= set(taken)
    assert len(taken) == 4 + 3
    # A lane of a task and the lane of the others take turns.
    assert {*taken} & {*plain}
    assert {*taken} & {*of_key}
    waiting = [run for run in (*plain, *of_key) if run not in taken]
    while waiting:
        out = next(run for run in taken if run in (*plain, *of_key) and LiveRun.objects.filter(pk=run).exists())
        end(out)
        [next_one] = publish()
        waiting.remove(next_one)
        taken.append(next_one)
        assert LiveRun.objects.filter(queue="emails", held=None).count() == 3


def test_a_queues_rate_counts_the_starts_of_all_its_tasks(settings: Any) -> None:
    limited(settings, rate="3/m")
    called(2, tasks.effect, queue="emails")
    called(2, queue="emails", account=1)
    first = publish()
    assert len(first) == 3
    assert not publish()
    for run in first:
        end(run)
    assert not publish()
    assert Start.objects.filter(lane="\x1femails").count() == 3
    Start.objects.update(at=timezone.now() - timedelta(seconds=61))
    assert len(publish()) == 1


@pytest.mark.parametrize("how", ["alone", "in a transaction", "with others", "unique", "at the commit"])
def test_each_way_of_storing_a_call_knows_the_limit(narrow: None, how: str) -> None:
    if how == "alone":
        tasks.effect.apply_async(("nowhere", "x"), queue="emails")
    elif how == "unique":
        tasks.effect.apply_async(("nowhere", "x"), queue="emails", unique="until done")
    elif how == "at the commit":
        with transaction.atomic():
            tasks.effect.apply_async(("nowhere", "x"), queue="emails")
    else:
        with transaction.atomic():
            for _ in range(1 if how == "in a transaction" else 3):
                tasks.effect.apply_async(("nowhere", "x"), queue="emails")
            TaskCall.objects.exists()
    assert set(LiveRun.objects.values_list("lane", "held")) == {("\x1f", Held.ARRIVED)}


def test_a_call_without_a_limit_is_stored_with_its_commit_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        calls, "insert_and_commit", lambda message, do=calls.insert_and_commit: made.append(do(message))
    )
    with transaction.atomic():
        changed.delay(1)
    assert not made
    with transaction.atomic():
        tasks.effect.delay("nowhere", "x")
    assert len(made) == 1
    assert LiveRun.objects.filter(lane=None).count() == LiveRun.objects.exclude(lane=None).count() == 1


def test_a_batch_of_both_kinds(narrow: None) -> None:
    with transaction.atomic():
        for number in range(6):
            task, arguments = (changed, (1,)) if number % 2 else (tasks.effect, ("nowhere", "x"))
            task.apply_async(arguments)
    assert LiveRun.objects.filter(lane=None, held=None).count() == 3
    assert LiveRun.objects.filter(lane__isnull=False, held=Held.ARRIVED).count() == 3


def test_a_slot_takes_nothing_of_a_limited_queue_from_the_ledger(settings: Any) -> None:
    slot = Slot()
    settings.TASKRUNS_QUEUES = [
        dataclasses.replace(queue, most_at_once=1) if queue.name == "default" else queue
        for queue in settings.TASKRUNS_QUEUES
    ]
    sync()
    called(3, tasks.effect)
    assert ids(slot.take()) == []


def test_an_operator_changes_the_limit_of_a_queue(narrow: None) -> None:
    called(5, tasks.effect, queue="emails")
    assert len(publish()) == 3
    set_limit(kind="queue", name="emails", concurrency=5)
    assert len(publish()) == 2


def test_a_queue_that_has_a_limit_is_paused_as_any_other(narrow: None) -> None:
    called(5, tasks.effect, queue="emails")
    publish()
    operator_actions.pause(kind="queue", name="emails", user=None)
    assert not publish()
    told = read_ledger().queues["emails"]
    assert (told.paused, told.held, told.depth, told.held_oldest) == (5, 0, 0, 0)
    operator_actions.resume(kind="queue", name="emails", user=None)
    while publish():
        pass
    assert LiveRun.objects.filter(held=None).count() == 3


def test_a_paused_task_of_a_limited_queue_does_not_stop_the_others(narrow: None) -> None:
    paused = called(4, tasks.effect, queue="emails")
    operator_actions.pause(kind="task", name="probe.effect", user=None)
    others = called(4, tasks.insert, queue="emails")
    assert publish() == others[:3]
    assert not LiveRun.objects.filter(pk__in=paused).exclude(held=Held.PAUSED).exists()
    operator_actions.resume(kind="task", name="probe.effect", user=None)
    for run in others[:3]:
        end(run)
    while publish():
        pass
    assert LiveRun.objects.filter(held=None).count() == 3


# ---- What is shown ---------------------------------------------------------------------------------------------------


def test_the_figures_say_how_long_a_limit_holds_back_and_what_is_due_later() -> None:
    five = called(5)
    called(2, countdown=3600)
    called(3, tasks.effect, countdown=3600)
    publish()
    change_run(five[4], run_at=timezone.now() - timedelta(seconds=50))
    told = read_ledger().queues["default"]
    assert (told.due, told.held, told.later) == (2, 3, 5)
    assert told.held_oldest == pytest.approx(50, abs=5)
    operator_actions.pause(kind="task", name=NAME, user=None)
    publish()
    told = read_ledger().queues["default"]
    assert (told.held, told.paused, told.held_oldest) == (0, 5, 0)


def test_the_lists_tell_later_held_and_paused_from_waiting() -> None:
    two = called(2)
    [held] = called(1)
    [later] = called(1, tasks.effect, countdown=3600)
    publish()
    [paused] = called(1, tasks.insert)
    operator_actions.pause(kind="task", name="probe.insert", user=None)
    publish()
    shown = {run.pk: standing(run) for run in find(RunFilter()).runs}
    assert shown == {
        two[0]: "queued", two[1]: "queued", held: "held", later: "later", paused: "paused",
    }  # fmt: skip
    assert [run.pk for run in find(RunFilter(status="later")).runs] == [later]
    assert {run.pk for run in find(RunFilter(status="held")).runs} == {held, paused}
    [found] = find(RunFilter(key=str(held))).runs
    assert standing(found) == "held"


def test_the_page_of_a_run_says_what_it_waits_for() -> None:
    user = get_user_model().objects.create_superuser("anna", "anna@example.com", "x")
    first, _, third = called(3, account="서울")
    publish()
    assert waits_for(TaskRun.objects.get(pk=first)) == []
    assert waits_for(TaskRun.objects.get(pk=third)) == ['the limit of the task: 2 at once, for the key "서울"']
    operator_actions.pause(kind="task", name=NAME, user=user)
    [text] = waits_for(TaskRun.objects.get(pk=third))
    assert text.startswith("the task is paused since ")
    assert text.endswith(" by anna")
