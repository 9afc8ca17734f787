"""The first deploy of a project that was on stock Celery: what waits in Redis then, and whose it becomes.

What docs/your-app.md says of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pressroom.models import TaskRun, Undeliverable
from tests.support.notes import noted
from tests.support.plugin import RedisServer
from tests.support.probes import old
from tests.support.processes import Stack
from tests.support.waiting import until

# So that what a killed worker held comes back at once: by default it takes an hour.
SOON = json.dumps({"visibility_timeout": 1, "unacked_restore_interval": 0.2, "unacked_restore_throttle": 1})
QUEUED = ["queued 1", "queued 2", "queued 3"]


def lines(effects: str) -> list[str]:
    return [line.partition(" started ")[0] if " started " in line else line for line in noted(effects)]


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_what_the_old_workers_leave_is_run_by_the_new(
    stack: Stack, redis_server: RedisServer, effects: str, gate: Path, end: str
) -> None:
    """Also what they had taken (prefetched, or waiting for its time), and what ran when they were killed."""
    redis = redis_server.client()
    command = [sys.executable, "-m", "celery", "-A", "tests.support.probes.old", "worker", "-c", "1", "-l", "info"]
    worker = stack.start(command, "ready.")
    old.hold.delay(effects, "running", str(gate))
    until(lambda: lines(effects), "it runs")
    old.effect.apply_async([effects, "later"], countdown=3)
    for line in QUEUED:
        old.effect.delay(effects, line)
    until(lambda: redis.hlen("unacked") == 5, "the old worker has taken all of it")
    if end == "stopped":
        worker.popen.terminate()
        gate.touch()
        assert worker.stop() == 0
        assert redis.llen("default") == 4, "it has put back what it had not begun"
        first = ["running", "running ended"]
    else:
        worker.kill()
        assert (redis.llen("default"), redis.hlen("unacked")) == (0, 5)
        gate.touch()
        first = ["running", "running", "running ended"]

    stack.relay()
    stack.worker(CELERY_BROKER_TRANSPORT_OPTIONS=SOON)
    until(lambda: len(lines(effects)) >= len(first) + 4, "all is done")
    assert sorted(lines(effects)) == sorted([*first, *QUEUED, "later"])
    assert redis.hlen("unacked") == redis.llen("default") == 0
    # They ran as plain Celery, without a row and its promises.
    assert not TaskRun.objects.exists()


def test_what_nobody_here_can_run_is_kept(stack: Stack, redis_server: RedisServer) -> None:
    """A task that did not come along, and what was pickled."""
    old.gone.delay()
    old.effect.apply_async(["/dev/null", "pickled"], serializer="pickle")
    stack.worker()
    until(lambda: Undeliverable.objects.count() == 2, "both are kept")
    told = Undeliverable.objects.order_by("reason").values_list("reason", flat=True)
    assert list(told) == ["no task is called 'old.gone'", "not in the format of Celery's messages"]


def test_a_queue_that_is_not_declared_waits(stack: Stack, redis_server: RedisServer, effects: str) -> None:
    """Stock Celery's own is called ``celery``: nothing takes it, nothing deletes it."""
    old.effect.apply_async([effects, "waits"], queue="celery")
    old.effect.apply_async([effects, "done"], queue="default")
    stack.relay()
    stack.worker()
    until(lambda: noted(effects) == ["done"], "the other one is done")
    assert redis_server.client().llen("celery") == 1


def test_a_retry_of_such_a_message_is_a_row(stack: Stack, redis_server: RedisServer, effects: str) -> None:
    """From its first retry on a task is the ledger's."""
    old.app.send_task("probe.retry_by_hand", [effects, 1], queue="default")
    stack.relay()
    stack.worker()
    until(lambda: len(noted(effects)) == 2, "it was tried again")
    assert until(TaskRun.objects.first, "its run").name == "probe.retry_by_hand"
