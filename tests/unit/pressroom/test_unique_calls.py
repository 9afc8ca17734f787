"""A second unique call returns the result of the first, and stores nothing."""

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group, shared_task
from django.db import connection, transaction
from django.utils import timezone

from app.celery import app
from pressroom import checks, retention
from pressroom.models import LiveRun, TaskCall, TaskRun, UniqueCall
from pressroom.signals import unique_call_repeated
from pressroom.sql import lost_attempts, runs
from tests.support.locks import waiting_for_locks
from tests.support.probes import here, tasks
from tests.support.processes import Process
from tests.support.waiting import until
from tests.unit.pressroom.test_bundle import Slot

pytestmark = pytest.mark.django_db(transaction=True)
MODES = pytest.mark.parametrize("unique", ["while waiting", "until done", 60])


def call(line: str = "x", **options: Any) -> Any:
    return tasks.effect.apply_async(["nowhere", line], **options)


@MODES
def test_a_second_call_is_the_first(unique: Any) -> None:
    first, second, other = call(unique=unique), call(unique=unique), call("y", unique=unique)
    assert first.id == second.id != other.id
    assert [result.repeated for result in (first, second, other)] == [False, True, False]
    assert TaskRun.of(second) == TaskRun.of(first)
    assert LiveRun.objects.count() == TaskCall.objects.count() == 2


@MODES
def test_a_signal_says_so_once_for_each_repeat(unique: Any) -> None:
    told: list[tuple[str, str]] = []

    def tell(name: str, celery_id: str, **_: object) -> None:
        told.append((name, celery_id))

    unique_call_repeated.connect(tell)
    try:
        first = call(unique=unique)
        call(unique=unique)
        call("y", unique=unique)
    finally:
        unique_call_repeated.disconnect(tell)
    assert told == [("probe.effect", first.id)]


@MODES
def test_a_call_that_is_not_unique_is_stored_beside_it(unique: Any) -> None:
    assert len({call(unique=unique).id, call().id, call(unique=False).id}) == 3


def test_how_long_each_holds(tmp_path: Path) -> None:
    path = str(tmp_path / "noted")

    def effect(unique: Any) -> Any:
        return tasks.effect.apply_async([path, "x"], unique=unique)

    waiting, done, seconds = (effect(unique) for unique in ("while waiting", "until done", 3600))
    claims = [here.claimed(TaskRun.of(result)) for result in (waiting, done, seconds)]
    assert effect("while waiting").id != waiting.id
    assert effect("until done").id == done.id
    assert effect(3600).id == seconds.id
    for claim in claims:
        assert runs.release(claim_worker(claim)) == 1
    for result in (waiting, done, seconds):
        here.execute(TaskRun.of(result))
    assert effect("until done").id != done.id
    assert effect(3600).id == seconds.id
    UniqueCall.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    again = effect(3600)
    assert again.id != seconds.id
    assert effect(3600).id == again.id


def claim_worker(claim: runs.Claim) -> int:
    return int(LiveRun.objects.values_list("worker_id", flat=True).get(pk=claim.run_id))


def test_a_slot_that_takes_from_the_ledger_frees_what_only_waits() -> None:
    slot = Slot()
    waiting, done = call(unique="while waiting"), call(unique="until done")
    assert len(slot.take()) == 2
    assert call(unique="while waiting").id != waiting.id
    assert call(unique="until done").id == done.id


def test_a_lost_attempt_does_not_meet_the_call_that_came_meanwhile() -> None:
    first = call(unique="while waiting")
    claim = here.claimed(TaskRun.of(first))
    second = call(unique="while waiting")
    assert lost_attempts.lose_claim(claim.run_id, claim.token)
    assert call(unique="while waiting").id == second.id
    assert LiveRun.objects.count() == 2


@MODES
def test_a_rollback_of_the_first_frees_it(unique: Any) -> None:
    with transaction.atomic():
        first = call(unique=unique)
        assert call(unique=unique).id == first.id
        transaction.set_rollback(True)
    second = call(unique=unique)
    assert second.id != first.id
    assert TaskRun.objects.get().celery_id == second.id


@MODES
@pytest.mark.parametrize("commits", [True, False])
def test_a_second_transaction_waits_for_the_end_of_the_first(unique: Any, commits: bool) -> None:
    called, end = threading.Event(), threading.Event()
    ids: dict[str, str] = {}

    def first() -> None:
        try:
            with transaction.atomic():
                ids["first"] = call(unique=unique).id
                called.set()
                assert end.wait(60)
                if not commits:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        connection.close()

    def second() -> None:
        ids["second"] = call(unique=unique).id
        connection.close()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert called.wait(60)
    threads[1].start()
    until(waiting_for_locks, "the second waits")
    end.set()
    for thread in threads:
        thread.join(60)
    assert (ids["first"] == ids["second"]) == commits
    assert TaskRun.objects.get().celery_id == ids["second"]


@pytest.mark.timeout(600)
def test_a_thousand_calls_from_eight_processes_a_tenth_rolled_back(tmp_path: Path) -> None:
    keys, gate = 5, tmp_path / "gate"
    command = [sys.executable, "-m", "tests.support.probes.unique_caller", str(gate), str(keys), "4", "125"]
    processes = [
        Process(command, tmp_path / f"{number}.log", DJANGO_SETTINGS_MODULE="app.settings") for number in range(8)
    ]
    try:
        for process in processes:
            process.wait_for("ready")
        gate.touch()
        ids = defaultdict(set)
        count = 0
        for process in processes:
            assert process.popen.wait(300) == 0, process.output()
            made = json.loads(process.output().splitlines()[-1])
            count += len(made)
            for key, celery_id in made:
                ids[key].add(celery_id)
    finally:
        for process in processes:
            process.end()
    assert count == 8 * 112  # of 125 calls the 13 with a number that ends in 0 are rolled back
    live = {json.loads(run.body)[0][1]: run.celery_id for run in TaskRun.objects.all()}
    assert {key: {celery_id} for key, celery_id in live.items()} == ids
    assert LiveRun.objects.count() == len(ids) == keys


# ---- By which arguments --------------------------------------------------------------------------------------------


@shared_task(name="probe.unique", unique="until done", unique_by=("account_id",))
def by_account(account_id: int, note: str = "", **more: Any) -> None:
    """Does nothing."""


@shared_task(name="probe.unique_by_all", bind=True, unique="until done")
def by_all(self: Any, one: Any, two: int = 2) -> None:
    """Does nothing."""


def test_by_named_arguments() -> None:
    first = by_account.delay(7, "a")
    assert by_account.delay(7, "b").id == first.id
    assert by_account.delay(account_id=7, note="c", other=1).id == first.id
    assert by_account.delay(8, "a").id != first.id
    assert by_account.apply_async((7, "a"), unique_by="note").id != first.id
    assert app.send_task("probe.unique", (7, "z")).id == first.id
    assert app.send_task("probe.unique", kwargs={"account_id": 7}).id == first.id


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        (((1,), {}), ((), {"one": 1}), True),
        (((1,), {}), ((1, 2), {}), True),
        (((1,), {}), ((1, 3), {}), False),
        ((({"a": 1, "b": [2]},), {}), (({"b": [2], "a": 1},), {}), True),
        ((("1",), {}), ((1,), {}), False),
        ((("\ud800\x00",), {}), (("\ud800\x00",), {}), True),
        ((("x" * 100_000,), {}), (("x" * 100_000,), {}), True),
        (((float("nan"),), {}), ((float("nan"),), {}), True),
        (((uuid.UUID(int=1),), {}), ((uuid.UUID(int=1),), {}), True),
    ],
)
def test_which_arguments_are_the_same(one: Any, other: Any, are_same: bool) -> None:
    first = by_all.apply_async(one[0], one[1])
    assert (by_all.apply_async(other[0], other[1]).id == first.id) == are_same


def test_a_task_that_this_process_does_not_know_is_unique_by_its_arguments() -> None:
    first = app.send_task("probe.elsewhere", (1,), unique="until done", queue="default")
    assert app.send_task("probe.elsewhere", (1,), unique="until done", queue="default").id == first.id
    with pytest.raises(ValueError, match="unique_by needs a task"):
        app.send_task("probe.elsewhere", (1,), unique="until done", unique_by=["x"], queue="default")


@pytest.mark.parametrize(
    "options",
    [
        {"unique": "for ever"}, {"unique": -1}, {"unique": float("nan")}, {"unique": float("inf")}, {"unique": True},
        {"unique": [1]}, {"unique": 1e300}, {"unique": "until done", "unique_by": ["no"]},
        {"unique": "until done", "unique_by": []}, {"unique": "until done", "unique_by": [1]},
        {"unique": 1, "unique_by": 1},
    ],
)  # fmt: skip
def test_what_is_not_an_option_is_refused_and_stores_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unique"):
        call(**options)
    assert not TaskRun.objects.exists()


# ---- Beside other features -----------------------------------------------------------------------------------------


def test_what_others_depend_on_is_always_stored() -> None:
    by_account.delay(7)
    linked = by_account.apply_async((7,), link=tasks.effect.si("nowhere", "x"))
    assert TaskRun.of(linked).celery_id == linked.id
    parts = group(by_account.s(7), by_account.s(7)).apply_async()
    assert {TaskRun.of(one).celery_id for one in parts.results} == {one.id for one in parts.results}
    chord([by_account.s(7)])(tasks.effect.si("nowhere", "x"))
    chain(by_account.s(7), tasks.effect.si("nowhere", "x")).apply_async()
    assert LiveRun.objects.count() == 6
    assert by_account.apply_async((7,), task_id="of-my-own").id == "of-my-own"


def test_calls_in_one_transaction_with_others_that_are_held_back() -> None:
    with transaction.atomic():
        plain = [call(str(number)) for number in range(3)]
        first = by_all.delay(1)
        assert by_all.delay(1).id == first.id
        plain.append(call("last"))
    assert {run.celery_id for run in TaskRun.objects.all()} == {one.id for one in [*plain, first]}


def test_a_later_call_is_unique_too() -> None:
    first = call(unique="while waiting", countdown=3600)
    assert call(unique="while waiting").id == first.id


def test_a_retry_keeps_its_run_and_its_key(tmp_path: Path) -> None:
    path = str(tmp_path / "noted")
    first = tasks.retry_by_hand.apply_async([path, 1], unique="until done")
    here.execute(TaskRun.of(first))
    assert TaskRun.of(first).status == "retrying"
    assert tasks.retry_by_hand.apply_async([path, 1], unique="until done").id == first.id
    assert LiveRun.objects.count() == 1


@pytest.mark.parametrize("way", here.WAYS, ids=lambda way: way.__name__)
def test_however_it_ends_the_next_call_is_stored(way: Callable[[TaskRun], None]) -> None:
    first = call(unique="until done")
    way(TaskRun.of(first))
    second = call(unique="until done")
    assert second.id != first.id
    assert TaskRun.of(second).status == "queued"


def test_the_second_call_sends_no_signal_of_a_publication() -> None:
    from celery.signals import after_task_publish

    sent: list[str] = []

    def note(headers: Any, **_: Any) -> None:
        sent.append(headers["id"])

    after_task_publish.connect(note)
    try:
        first = call(unique="until done")
        call(unique="until done")
    finally:
        after_task_publish.disconnect(note)
    assert sent == [first.id]


def test_what_is_past_is_pruned() -> None:
    call(unique=3600)
    call("y", unique=3600)
    UniqueCall.objects.filter(pk=UniqueCall.objects.first().pk).update(ends_at=timezone.now())  # type: ignore[union-attr]
    retention.prune()
    assert UniqueCall.objects.count() == 1


@shared_task(name="probe.checked")
def checked(account_id: int) -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"unique": "always"}, "unique='always'"),
        ({"unique": "until done", "unique_by": ["no"]}, "no argument of the task: no"),
        ({"unique_by": ["account_id"]}, "unique_by needs unique"),
        ({"unique": 60, "durable": False}, "durable=False"),
    ],
)
def test_the_check_at_start(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], text: str) -> None:
    assert not [*checks.task_unique_calls()]
    for name in ("unique", "unique_by"):
        monkeypatch.setattr(checked, name, None)
    for name, value in options.items():
        monkeypatch.setattr(checked, name, value)
    [found] = checks.task_unique_calls()
    assert (found.id, found.is_serious()) == ("pressroom.E098", True)
    assert text in found.msg
