"""Which runs a bundle takes, and that a lost answer costs none of them."""

from __future__ import annotations

import datetime
import json
import pickle
import uuid
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction

from pressroom.execution.slot_report import ExecutedRun, SlotReport
from pressroom.models import Status, TaskRun
from pressroom.sql import backlog, ends, runs, workers
from pressroom.worker.request_metrics import CountedRequest
from tests.support.ledger_rows import change_run
from tests.support.probes import tasks

THEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
pytestmark = pytest.mark.django_db(transaction=True)


class Slot:
    """A slot whose first run, of ``probe.effect``, has ended."""

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority
        self.worker = workers.register("w@h", '["default"]', 1)
        run = TaskRun.of(tasks.effect.apply_async(["nowhere", "first"], priority=priority))
        claimed = runs.claim(run.pk, uuid.uuid4(), self.worker)
        assert claimed is not None
        self.first = claimed
        assert ends.succeed(claimed, "null")
        self.limits = json.dumps({"timelimit": json.loads(run.headers)["timelimit"]})[1:-1]

    def exchange(
        self, most: int, *ended: backlog.SuccessToWrite, revoked: Sequence[str] = ()
    ) -> tuple[set[uuid.UUID], list[backlog.ClaimedRun]]:
        names = ["probe.effect", "probe.hold"]
        return backlog.finish_and_claim(
            self.first.token, self.worker, "default", self.priority, ended, names, revoked, self.limits, most
        )

    def take(self, most: int = 100, revoked: Sequence[str] = ()) -> list[backlog.ClaimedRun]:
        return self.exchange(most, revoked=revoked)[1]


def call(count: int, **options: Any) -> list[TaskRun]:
    with transaction.atomic():
        results = [tasks.effect.apply_async(["nowhere", str(number)], **options) for number in range(count)]
    return [TaskRun.of(result) for result in results]


def ids(taken: list[backlog.ClaimedRun]) -> list[uuid.UUID]:
    return [one.claim.run_id for one in taken]


def test_the_longest_due_first_and_no_more_than_asked_for() -> None:
    slot, called = Slot(), call(5)
    taken = slot.take(3)
    assert ids(taken) == [run.pk for run in called[:3]]
    for run in called[:3]:
        run.refresh_from_db()
        assert (run.status, run.claim, run.worker_id, run.attempt) == ("running", slot.first.token, slot.worker, 1)
    told = [(one.celery_id, one.name, one.body) for one in taken]
    assert told == [(run.celery_id, "probe.effect", run.body) for run in called[:3]]
    assert all(one.claim.waited >= 0 for one in taken)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"countdown": 3600}, {}),
        ({"priority": 5}, {}),
        ({"queue": "emails"}, {}),
        ({"time_limit": 7}, {}),
        ({"soft_time_limit": 7}, {}),
        ({}, {"name": "probe.other"}),
        ({}, {"losses": 1}),
        ({}, {"published_at": THEN}),
        ({}, {"expires_at": THEN}),
        ({}, {"status": Status.CANCELLED}),
    ],
)
def test_others_are_left_to_the_relay(options: dict[str, Any], change: dict[str, Any]) -> None:
    slot = Slot()
    [left], [wanted] = call(1, **options), call(1)
    change_run(left.pk, **change)
    assert ids(slot.take()) == [wanted.pk]


def test_what_is_more_urgent_and_due_goes_first() -> None:
    slot = Slot(priority=9)
    [less], [urgent] = call(1, priority=9), call(1, priority=5)
    call(1, priority=3, countdown=3600)
    call(1, priority=4, expires=-1)
    call(1, priority=10)
    assert ids(slot.take()) == [urgent.pk]
    assert ids(slot.exchange(9, backlog.SuccessToWrite(slot.first, "null", None, 0.0, 0.0))[1]) == [
        urgent.pk
    ]  # as before
    change_run(urgent.pk, status=Status.SUCCEEDED)
    assert ids(slot.take()) == [less.pk]


def test_what_is_revoked_by_its_id_is_left() -> None:
    slot, called = Slot(), call(3)
    taken = slot.take(revoked=[called[1].celery_id, "another"])
    assert ids(taken) == [called[0].pk, called[2].pk]


def test_only_the_head_of_the_queue_is_looked_at() -> None:
    """A backlog of another task is not searched through."""
    slot = Slot()
    for number in range(3):
        tasks.insert.delay("nowhere", str(number))
    call(3)
    assert not slot.take(3)
    assert len(slot.take(4)) == 1


def test_a_worker_declared_dead_takes_nothing() -> None:
    slot = Slot()
    call(3)
    workers.end([slot.worker], lost=True)
    assert not slot.take()


def test_an_answer_lost_is_had_again() -> None:
    slot = Slot()
    call(4)
    taken = slot.take(2)
    assert ids(slot.take(2)) == ids(taken)
    successes = [backlog.SuccessToWrite(one.claim, f'"{number}"', None, 2.0, 1.0) for number, one in enumerate(taken)]
    ended, more = slot.exchange(2, *successes)
    assert ended == set(ids(taken))
    assert slot.exchange(2, *successes) == (ended, more)
    assert len(more) == 2
    for number, one in enumerate(taken):
        run = TaskRun.objects.get(pk=one.claim.run_id)
        assert run.started_at is not None
        assert run.finished_at is not None
        assert (run.status, run.result) == (Status.SUCCEEDED, f'"{number}"')
        assert abs((run.finished_at - run.started_at).total_seconds() - 1.0) < 0.001


def test_a_claim_lost_is_not_ended() -> None:
    slot = Slot()
    call(2)
    mine, lost = slot.take(2)
    change_run(lost.claim.run_id, claim=uuid.uuid4())
    successes = [backlog.SuccessToWrite(one.claim, "null", None, 0.0, 0.0) for one in (mine, lost)]
    ended, _ = slot.exchange(0, *successes)
    assert ended == {mine.claim.run_id}
    assert TaskRun.objects.get(pk=lost.claim.run_id).status == Status.RUNNING


def test_what_was_not_begun_is_given_back() -> None:
    slot = Slot()
    call(3)
    before = [*TaskRun.objects.order_by("pk").values_list("pk", "run_at")]
    slot.take(2)
    assert runs.release(slot.worker, token=slot.first.token) == 2
    assert [*TaskRun.objects.order_by("pk").values_list("pk", "run_at")] == before
    assert set(TaskRun.objects.filter(status=Status.QUEUED).values_list("attempt", "losses", "claim")) == {(0, 0, None)}
    other = uuid.uuid4()
    slot.take(2)
    assert runs.release(slot.worker, token=other) == 0


def test_what_a_dead_child_would_have_told() -> None:
    slot = Slot()
    call(4)
    well, badly, again, _ = slot.take(4)
    slot.exchange(0, backlog.SuccessToWrite(well.claim, "null", None, 3.0, 1.0))
    ends.fail(badly.claim, runs.Failure("KeyError", "'x'", ""), None)
    change_run(again.claim.run_id, status=Status.RETRYING)
    told = {one.celery_id: one for one in backlog.ended_under(slot.first.token, slot.first.run_id, "default", 60.0)}
    assert {one.celery_id: one.status for one in told.values()} == {
        well.celery_id: "succeeded",
        badly.celery_id: "dead",
        again.celery_id: "retrying",
    }
    assert told[well.celery_id].runtime == pytest.approx(2.0, abs=0.01)
    assert told[badly.celery_id].error_type == "KeyError"


@pytest.mark.parametrize(
    ("report", "text", "events"),
    [
        ("'well'", "'well'", []),
        (SlotReport("dropped", is_dropped=True), "dropped", []),
        (
            SlotReport("'well'", others=(ExecutedRun("an-id", "probe.effect", 0, None, 0.5, "SUCCESS", ""),)),
            "'well'",
            ["task-sent", "task-received", "task-started", "task-succeeded"],
        ),
    ],
    ids=["plain", "dropped", "bundle"],
)
def test_celery_reads_text_whatever_a_slot_reports(report: str | SlotReport, text: str, events: list[str]) -> None:
    seen: list[Any] = []
    sent: list[str] = []

    class Request(CountedRequest):
        _eventer = SimpleNamespace(enabled=True, send=lambda kind, **fields: sent.append(kind))
        delivery_info = {"routing_key": "default"}

        def on_success(self, outcome: Any) -> None:
            seen.append(outcome)

    request = Request.__new__(Request)
    # As it comes from a child process.
    request.on_success((0, pickle.loads(pickle.dumps(report)), 0.1))  # noqa: S301 - our own
    assert seen == [(0, text, 0.1)]
    assert type(seen[0][1]) is str
    assert sent == events
