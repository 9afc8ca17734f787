"""Cancelling: what waits never runs, what runs is ended where the pool can, and the status tells the truth."""

from pathlib import Path
from typing import Any

import pytest
from celery import chord
from celery.exceptions import TaskRevokedError
from django.db.models.functions import Now

from pressroom import operator_actions
from pressroom.models import Status, TaskRun
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


def test_what_waits_never_runs(stack: Stack, effects: str, redis_server: object) -> None:
    result = tasks.effect.delay(effects, "cancelled")
    stack.relay()
    until(lambda: TaskRun.of(result).published_at, "it is in Redis already")
    operator_actions.run_cancel(run=TaskRun.of(result), user=None)
    stack.worker()
    assert tasks.effect.delay(effects, "after").get(timeout=60) == "after"

    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    assert noted(effects) == ["after"]


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_what_runs_is_ended(stack: Stack, effects: str, gate: Path, pool: str) -> None:
    stack.relay()
    stack.worker(f"--pool={pool}", "--concurrency=4")
    result = tasks.hold.delay(effects, "job", str(gate))
    bystander = tasks.hold.delay(effects, "bystander", str(gate))
    until(lambda: len(noted(effects)) == 2, "both run")
    operator_actions.run_cancel(run=TaskRun.of(result), user=None)
    until(lambda: TaskRun.of(result).status == Status.CANCELLED, "it is cancelled")
    gate.touch()
    until(done, "the other is done")

    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    assert TaskRun.of(bystander).status == Status.SUCCEEDED
    assert "job ended" not in noted(effects)
    assert tasks.effect.delay(effects, "after").get(timeout=60) == "after"


def test_a_thread_is_told(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    stack.worker("--pool=threads", "--concurrency=4")
    polite = tasks.hold_politely.delay(effects, str(gate))
    deaf = tasks.hold.delay(effects, "deaf", str(gate))
    until(lambda: len(noted(effects)) == 2, "both run")
    for one in (polite, deaf):
        operator_actions.run_cancel(run=TaskRun.of(one), user=None)
    until(lambda: TaskRun.of(polite).status == Status.CANCELLED, "who asks has stopped")
    assert TaskRun.of(deaf).status == Status.RUNNING
    assert TaskRun.of(deaf).cancel_requested_at is not None
    gate.touch()
    until(done, "the other is done")

    # It did its work, and that is what the status says.
    assert TaskRun.of(deaf).status == Status.SUCCEEDED
    assert "stopped" in noted(effects)


def test_what_was_to_be_cancelled_does_not_go_on_by_a_retry_and_its_chord_hears_of_it(
    stack: Stack, effects: str, gate: Path
) -> None:
    stack.relay()
    stack.worker("--pool=threads", "--concurrency=4")
    body = tasks.effect.si(effects, "body").on_error(tasks.effect.si(effects, "told"))
    result = chord([tasks.retry_at.si(effects, str(gate)), tasks.effect.si(effects, "part")])(body)
    until(lambda: len(noted(effects)) == 2, "both parts have begun")
    run = TaskRun.objects.get(name="probe.retry_at")
    operator_actions.run_cancel(run=run, user=None)
    gate.touch()
    until(done, "all is done")

    run.refresh_from_db()
    assert (run.status, run.attempt) == (Status.CANCELLED, 1)
    assert result.failed()
    assert sorted(noted(effects)) == ["part", "started", "told"]


def test_expires_is_honoured_before_and_after_publishing(stack: Stack, effects: str, redis_server: Any) -> None:
    unpublished = tasks.effect.apply_async([effects, "expired"], expires=0.1)
    until(lambda: TaskRun.of(unpublished).expires_at, "it is stored")
    relay = stack.relay()
    until(lambda: TaskRun.of(unpublished).status == Status.EXPIRED, "the relay sees it expire")
    assert TaskRun.of(unpublished).published_at is None
    published = tasks.effect.apply_async([effects, "expired"], expires=3)
    # Not when the ledger says so: the relay marks it first.
    until(lambda: redis_server.client().llen("default"), "it is in Redis")
    # Without a relay nobody but the claim can refuse it.
    relay.kill()
    run = TaskRun.of(published)
    until(lambda: TaskRun.objects.filter(pk=run.pk, expires_at__lt=Now()).exists(), "it is past its expiry")
    worker = stack.worker()
    worker.wait_for("dropped")
    stack.relay()
    until(done, "it is ended")

    assert TaskRun.of(published).status == Status.EXPIRED
    assert noted(effects) == []
