"""A paused queue or task starts nothing, loses nothing, and goes on where it was."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from pressroom import operator_actions
from pressroom.models import Held, LiveRun, Pause, Status, TaskRun
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.operator_actions import NotPossible
from pressroom.sql import dispatch, ends, lost_attempts, pauses, runs, workers
from tests.support.ledger_rows import change_run
from tests.support.locks import waiting_for_locks
from tests.support.probes import here, tasks
from tests.support.waiting import until
from tests.unit.pressroom.test_bundle import Slot, call, ids

pytestmark = pytest.mark.django_db(transaction=True)
EFFECT, INSERT = "probe.effect", "probe.insert"
WINDOWS = {"default": 100, "emails": 100}


def pause(kind: str, name: str) -> None:
    operator_actions.pause(kind=kind, name=name, user=None)


def resume(kind: str, name: str) -> None:
    operator_actions.resume(kind=kind, name=name, user=None)


def taken() -> list[uuid.UUID]:
    return [row.run_id for row in dispatch.take_due(WINDOWS)]


def claim(run: TaskRun) -> runs.Claim | None:
    return runs.claim(run.pk, uuid.uuid4(), workers.register("w@h", '["default"]', 1))


PAUSES = pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", EFFECT)])


@PAUSES
def test_the_relay_publishes_nothing_of_it_and_others_as_ever(kind: str, name: str) -> None:
    others = call(1, queue="emails") if kind == "queue" else [TaskRun.of(tasks.insert.delay("nowhere", "x"))]
    called = call(3)
    pause(kind, name)
    called += call(2)
    assert taken() == [run.pk for run in others]
    assert not taken()
    resume(kind, name)
    assert taken() == [run.pk for run in called]


@PAUSES
def test_a_published_message_is_refused_and_its_run_waits_without_a_miss(kind: str, name: str) -> None:
    [run] = call(1)
    assert taken() == [run.pk]
    pause(kind, name)
    assert claim(run) is None
    run = TaskRun.objects.get(pk=run.pk)
    assert (run.status, run.published_at, run.misses, run.losses, run.attempt) == (Status.QUEUED, None, 0, 0, 0)
    # The reconciler looks for messages of published runs only.
    assert dispatch.unclaimed(-1.0) == {}
    resume(kind, name)
    assert taken() == [run.pk]
    assert claim(run) is not None


@PAUSES
def test_what_runs_goes_on_and_its_retry_waits(kind: str, name: str) -> None:
    first, second, third = call(3)
    claims = [claim(run) for run in (first, second, third)]
    pause(kind, name)
    done, lost, again = claims
    assert done is not None
    assert lost is not None
    assert again is not None
    assert ends.succeed(done, "null")
    assert lost_attempts.lose_claim(lost.run_id, lost.token)
    message = runs.Message(third.celery_id, EFFECT, "default", 0, third.headers, third.body, third.properties)
    assert ends.reschedule(again, message, runs.LOST)
    assert not taken()
    assert claim(third) is None or kind == "queue"
    resume(kind, name)
    assert set(taken()) | {run.pk for run in LiveRun.objects.filter(status=Status.RUNNING)} == {second.pk, third.pk}


@PAUSES
def test_a_slot_takes_nothing_of_it_from_the_ledger(kind: str, name: str) -> None:
    slot = Slot()
    called = call(2)
    pause(kind, name)
    assert not slot.take()
    resume(kind, name)
    assert ids(slot.take()) == [run.pk for run in called]


def test_a_slot_takes_another_task_of_the_queue() -> None:
    slot = Slot()
    pause("task", "probe.hold")
    called = call(2)
    assert ids(slot.take()) == [run.pk for run in called]


@PAUSES
def test_the_depth_leaves_it_out_and_the_figures_tell_it_apart(kind: str, name: str) -> None:
    called = call(5)
    call(1, countdown=3600)
    [running] = call(1)
    assert claim(running) is not None
    dispatch.take_due({"default": 2})
    pause(kind, name)
    taken()
    told = read_ledger()
    queue = told.queues["default"]
    assert (queue.due, queue.paused, queue.running, queue.depth) == (0, 5, 1, 1)
    assert (queue.published, queue.oldest, queue.relay_lag) == (0, 0, 0)
    [one] = told.pauses
    assert (one.kind, one.name) == (kind, name)
    assert 0 <= one.age < 60
    resume(kind, name)
    taken()
    queue = read_ledger().queues["default"]
    assert (queue.due, queue.paused, queue.depth) == (len(called), 0, 6)


def test_a_task_behind_ten_thousand_paused_ones_starts() -> None:
    """The relay meets each paused run once."""
    count = 12_000
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, status, created_at, run_at,
                attempt, losses, misses, progress_message, error_type, error, traceback)
            SELECT gen_random_uuid(), 'c' || n, %s, 'default', n %% 2, 'queued', now(),
                now() - interval '1 hour' + n * interval '1 ms', 0, 0, 0, '', '', '', ''
            FROM generate_series(1, %s) n
            """,
            [EFFECT, count],
        )
        cursor.execute("INSERT INTO taskruns_taskcall SELECT id, '{}', '[]', '{}' FROM taskruns_liverun")
    other = TaskRun.of(tasks.insert.delay("nowhere", "x"))
    pause("task", EFFECT)
    assert taken() == [other.pk]
    assert LiveRun.objects.filter(held=Held.PAUSED).count() == count
    resume("task", EFFECT)
    assert len(taken()) == 99
    while LiveRun.objects.filter(held=Held.PAUSED).exists():
        taken()
    assert LiveRun.objects.filter(held=None).count() == count + 1


def test_what_is_held_is_cancelled_and_expires_as_ever() -> None:
    cancelled, expired, kept = call(3)
    pause("task", EFFECT)
    taken()
    change_run(expired.pk, expires_at="2026-01-01T00:00Z")
    operator_actions.run_cancel(run=cancelled, user=None)
    assert [run.run_id for run in ends.expire()] == [expired.pk]
    assert [*LiveRun.objects.values_list("pk", "held")] == [(kept.pk, Held.PAUSED)]


def test_two_pauses_hold_until_both_are_over() -> None:
    [run] = call(1)
    taken()
    pause("task", EFFECT)
    pause("queue", "default")
    resume("task", EFFECT)
    assert not taken()
    assert claim(run) is None
    resume("queue", "default")
    assert taken() == [run.pk]


def test_a_relay_that_marks_runs_meanwhile_does_not_publish_them_after_the_pause() -> None:
    [run] = call(1)
    marked, go_on = threading.Event(), threading.Event()

    def relay() -> None:
        with transaction.atomic():
            assert taken() == [run.pk]
            marked.set()
            assert go_on.wait(60)
        connection.close()

    def pauser() -> None:
        pause("queue", "default")
        connection.close()

    threads = [threading.Thread(target=relay), threading.Thread(target=pauser)]
    threads[0].start()
    assert marked.wait(60)
    threads[1].start()
    until(waiting_for_locks, "the pause waits for the relay")
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert LiveRun.objects.get().held == Held.PAUSED
    assert claim(run) is None


def test_without_a_pause_a_message_of_that_time_is_claimed() -> None:
    """The twin of the test above."""
    [run] = call(1)
    assert taken() == [run.pk]
    assert claim(run) is not None


@pytest.mark.parametrize(
    ("kind", "name"), [("queue", "no"), ("task", "no.such"), ("worker", "x"), ("queue", ""), ("task", "\0"), ("\0", "")]
)
def test_what_does_not_exist_is_refused(kind: str, name: str) -> None:
    with pytest.raises(NotPossible):
        pause(kind, name)
    with pytest.raises(NotPossible):
        resume(kind, name)
    assert not Pause.objects.exists()


def test_a_second_pause_is_refused_and_the_first_stands() -> None:
    user = get_user_model().objects.create_user("op", "op@example.com", "a-long-passphrase-1")
    first = operator_actions.pause(kind="queue", name="default", user=user)
    with pytest.raises(NotPossible, match="paused already"):
        pause("queue", "default")
    assert Pause.objects.get() == first
    assert first.by == user
    user.delete()
    assert Pause.objects.get().by is None


def test_a_pause_that_is_rolled_back_holds_nothing() -> None:
    [run] = call(1)
    taken()
    with transaction.atomic():
        assert pauses.pause("queue", "default")
        transaction.set_rollback(True)
    assert claim(run) is not None


def test_the_command(capsys: Any) -> None:
    call_command("flow", "pause", "queue", "emails")
    call_command("flow", "pause", "task", EFFECT)
    with pytest.raises(CommandError, match="paused already"):
        call_command("flow", "pause", "queue", "emails")
    with pytest.raises(CommandError, match="no queue"):
        call_command("flow", "pause", "queue", "no")
    capsys.readouterr()
    call_command("flow", "list")
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in told] == [["queue", "emails"], ["task", EFFECT]]
    call_command("flow", "resume", "queue", "emails")
    with pytest.raises(CommandError, match="not paused"):
        call_command("flow", "resume", "queue", "emails")
    assert Pause.objects.get().name == EFFECT


def test_a_paused_run_executes_after_the_pause(tmp_path: Any) -> None:
    path = str(tmp_path / "noted")
    run = TaskRun.of(tasks.effect.delay(path, "a"))
    taken()
    pause("task", EFFECT)
    here.execute(run)
    assert tasks.noted(path) == []
    resume("task", EFFECT)
    taken()
    here.execute(TaskRun.objects.get(pk=run.pk))
    assert tasks.noted(path) == ["a"]
