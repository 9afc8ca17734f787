"""`on_end`: called once for every way to end, in the transaction of the end, and unable to break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from django.contrib.auth.models import Group
from django.db import transaction

from pressroom import operator_actions
from pressroom.models import Status, TaskRun
from pressroom.tasks import tell_end
from tests.support.ledger_rows import change_run
from tests.support.notes import noted
from tests.support.probes import here, tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "told")


def call(*args: str) -> TaskRun:
    return TaskRun.of(tasks.waited.delay(*args))


def waiting(name: str) -> TaskRun:
    return TaskRun.objects.get(name=name, status__in=(Status.QUEUED, Status.RETRYING))


@pytest.mark.parametrize(
    ("then", "told"),
    [("", "succeeded"), ("fail", "failed KeyError 'mine'"), ("reject", "failed Reject ('no', False)")],
)
def test_a_worker_tells_of_the_end_that_it_writes(path: str, then: str, told: str) -> None:
    run = here.execute(call(path, "", then))
    assert run.finished_at is not None
    assert noted(path) == [told]


@pytest.mark.parametrize("then", ["retry", "replace"])
def test_a_retry_and_a_replacement_are_no_end(path: str, then: str) -> None:
    here.execute(call(path, "", then))
    assert noted(path) == []
    here.execute(waiting("probe.waited"))
    assert noted(path) == ["succeeded"]


WAYS: dict[Callable[[TaskRun], None], list[str]] = {
    here.cancelled: ["cancelled"],
    here.cancelled_while_it_runs: ["cancelled"],
    here.expired: ["expired"],
    here.failed: ["failed KeyError 'x'"],
    here.lost_too_often: ["failed WorkerLostError The worker died while it ran this task."],
    here.unknown_to_workers: ["failed NotRegistered 'probe.waited'"],
    here.taken_by_no_worker: ["failed ValueError too large"],
    here.discarded: ["failed KeyError 'x'", "discarded"],
}


@pytest.mark.parametrize("way", here.WAYS)
def test_the_ledger_tells_of_the_end_that_it_writes_and_of_a_new_run(path: str, way: Callable[[TaskRun], None]) -> None:
    run = call(path)
    way(run)
    assert noted(path) == WAYS[way]
    if way is not here.discarded:
        operator_actions.run_again(run=run, user=None)
        assert noted(path)[-1] == "restarted"


@pytest.mark.parametrize("then", ["", "fail"])
@pytest.mark.parametrize("hook", ["raise", "database", "deferred", "leave open"])
def test_a_hook_that_fails_breaks_neither_the_end_nor_what_comes_with_it(path: str, hook: str, then: str) -> None:
    result = tasks.waited.apply_async([path, hook, then], link=tasks.effect.si(path, "linked"))
    run = here.execute(TaskRun.of(result))
    assert run.status == (Status.DEAD if then else Status.SUCCEEDED)
    assert not Group.objects.filter(name__startswith="told").exists(), "its own writes are undone"
    assert TaskRun.objects.filter(name="probe.effect").count() == (0 if then else 1)
    # It is tried again, as a task that is counted and may become a dead letter.
    again = waiting(tell_end.name)
    assert again.arguments[0][0]["celery_id"] == run.celery_id
    again = here.execute(again)
    assert (again.status, again.error_type != "") == (Status.RETRYING, True)


@pytest.mark.parametrize("way", here.WAYS)
def test_nor_the_ends_of_the_ledger(path: str, way: Callable[[TaskRun], None]) -> None:
    run = call(path, "raise")
    way(run)
    assert TaskRun.objects.filter(name=tell_end.name).count() == len(WAYS[way])


def test_a_hook_does_not_close_the_connection_under_the_end(path: str) -> None:
    assert here.execute(call(path, "close")).status == Status.SUCCEEDED
    assert noted(path) == ["succeeded"]


def test_what_is_rolled_back_was_not_told(path: str) -> None:
    run = call(path)
    with transaction.atomic():
        operator_actions.run_cancel(run=run, user=None)
        transaction.set_rollback(True)
    assert not Group.objects.filter(name__startswith="told").exists()


def test_the_rest_of_a_chain_that_never_runs_is_told(path: str) -> None:
    chain(tasks.waited.si(path, "", "fail"), tasks.effect.si(path, "no"), tasks.waited.si(path)).delay()
    here.execute(waiting("probe.waited"))
    assert sorted(noted(path)) == ["failed KeyError 'mine'"] * 2


def test_a_cancelled_step_cancels_what_waits_for_the_rest(path: str) -> None:
    chain(tasks.effect.si(path, "no"), group(tasks.waited.si(path), tasks.waited.si(path))).delay()
    here.cancelled(waiting("probe.effect"))
    assert noted(path) == ["cancelled TaskRevokedError revoked"] * 2


def test_the_body_of_a_chord_that_never_runs_is_told(path: str) -> None:
    header: list[Any] = [tasks.effect.si(path, "part"), tasks.waited.si(path, "", "fail")]
    chord(header)(tasks.waited.si(path))
    here.execute(waiting("probe.effect"))
    here.execute(waiting("probe.waited"))
    part, first, body = noted(path)
    assert (part, first) == ("part", "failed KeyError 'mine'")
    assert body.startswith("failed ChordError")


def test_told_again_it_is_done(path: str) -> None:
    here.execute(call(path, "raise"))
    again = waiting(tell_end.name)
    change_run(again.pk, body=again.body.replace('"raise"', '""'))
    assert here.execute(TaskRun.objects.get(pk=again.pk)).status == Status.SUCCEEDED
    assert noted(path) == ["succeeded"]
