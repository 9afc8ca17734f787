"""A chord is done exactly once, whatever is lost between its last part and its callback."""

from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chord, group

from pressroom.models import Status, TaskGroup, TaskRun
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until


def test_flushall_and_a_killed_worker_before_the_last_part(
    stack: Stack, effects: str, gate: Path, redis_server: Any
) -> None:
    stack.relay()
    worker = stack.worker("--concurrency=4")
    header = [tasks.effect.si(effects, f"part {number}") for number in range(5)]
    last = tasks.hold.si(effects, "last part", str(gate))
    result = chord([*header, last], tasks.effect.si(effects, "callback")).delay()
    until(lambda: TaskGroup.objects.get().done == 5, "all parts but the last are counted")
    redis_server.client().flushall()
    worker.kill()
    gate.touch()
    stack.worker("--concurrency=4")

    assert result.get(timeout=120) == "callback"
    until(done, "all is done")
    lines = tasks.noted(effects)
    assert lines.count("callback") == 1
    assert [lines.count(f"part {number}") for number in range(5)] == [1] * 5


def test_flushall_and_killed_workers_after_the_last_part(stack: Stack, effects: str, redis_server: Any) -> None:
    """No worker of the callback's queue runs: it stands in the ledger with the last part's finish, or not at all."""
    stack.relay()
    worker = stack.worker("--queues=default")
    callback = tasks.effect.si(effects, "callback").set(queue="emails")
    result = chord([tasks.effect.si(effects, f"part {number}") for number in range(5)], callback).delay()
    run = until(lambda: TaskRun.objects.filter(celery_id=result.id).first(), "the callback is stored")
    until(lambda: TaskRun.objects.get(pk=run.pk).published_at, "it is in Redis")
    worker.kill()
    redis_server.client().flushall()
    stack.worker("--queues=emails")

    assert result.get(timeout=120) == "callback"
    until(done, "all is done")
    assert tasks.noted(effects).count("callback") == 1


def test_a_part_that_dies_fails_the_chord_once(stack: Stack, effects: str) -> None:
    stack.relay()
    stack.worker("--concurrency=2")
    result = chord(
        [tasks.effect.si(effects, "part"), tasks.suicide.si(effects)], tasks.effect.si(effects, "no")
    ).delay()
    error = result.get(timeout=120, propagate=False)

    assert type(error).__name__ == "ChordError"
    assert "WorkerLostError" in str(error)
    assert "no" not in tasks.noted(effects)
    assert TaskRun.objects.get(name="probe.suicide").status == Status.DEAD


@pytest.mark.parametrize("fault", ["stopped", "hanging"])
def test_with_redis_away_a_group_and_a_chord_are_stored_at_once(
    transactional_db: None, effects: str, redis_server: Any, fault: str
) -> None:
    if fault == "stopped":
        redis_server.stop()
    else:
        redis_server.pause(20_000)
    parts = [tasks.effect.si(effects, str(number)) for number in range(3)]
    group(parts).delay()
    chord(parts, tasks.effect.si(effects, "callback")).delay()
    if fault == "hanging":
        with pytest.raises(redis.TimeoutError):
            # It still hangs: nothing has waited for it.
            redis_server.client(socket_timeout=0.05).ping()
    assert TaskRun.objects.count() == 6


def test_a_group_is_stored_whole_or_not_at_all(transactional_db: None, effects: str) -> None:
    good = tasks.effect.si(effects, "good")
    with pytest.raises(Exception, match="JSON"):
        group(good, tasks.effect.si(effects, object())).delay()
    assert not TaskRun.objects.exists()
