"""Every pool runs tasks by the ledger, with its connections bounded."""

import time
from itertools import accumulate
from pathlib import Path

import pytest
from django.db import connection, transaction

from pressroom.models import Status, TaskRun
from pressroom.models import Worker as WorkerRow
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

CALLS = 100
SECONDS = 0.5
"""What one call waits for its answer."""


def connections_of(application: str) -> int:
    """How many connections Postgres has of processes that were started under this name (PGAPPNAME)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [application])
        return int(cursor.fetchone()[0])


def most_at_once(lines: list[str]) -> int:
    """Of calls noted as they began and ended."""
    return max(accumulate(1 if line == "called" else -1 for line in lines))


@pytest.mark.parametrize(
    ("pool", "slots", "bound"),
    # A connection for the heartbeat, and one a process or the pool's ten.
    [("prefork", 10, 10 + 1), ("threads", CALLS, 10 + 1), ("gevent", CALLS, 10 + 1), ("solo", 1, 1 + 1)],
)
def test_100_slow_calls(stack: Stack, effects: str, gate: Path, pool: str, slots: int, bound: int) -> None:
    """As many at once as the pool has slots, so in 100 / slots waves; never more connections than promised."""
    stack.relay()
    worker = stack.worker(f"--pool={pool}", f"--concurrency={slots}", PGAPPNAME=pool)
    with transaction.atomic():
        for _ in range(CALLS):
            tasks.slow_call.delay(effects, str(gate), SECONDS if slots > 1 else 0.02)
    counted = [0]

    def count() -> bool:
        counted.append(connections_of(pool))
        return True

    until(lambda: count() and len(tasks.noted(effects)) == slots, "every slot has a call")
    began = time.monotonic()
    gate.touch()
    until(lambda: count() and tasks.noted(effects).count("answered") == CALLS, "all are answered")
    took = time.monotonic() - began
    until(done, "all are done")

    print(f"{pool}: {CALLS} calls, {slots} at once, in {took:.1f} s; {max(counted)} connections, {bound} promised")
    assert most_at_once(tasks.noted(effects)) == slots
    assert 1 < max(counted) <= bound
    assert set(TaskRun.objects.values_list("status", flat=True)) == {Status.SUCCEEDED}
    if pool != "solo":
        assert worker.stop() == 0
        until(lambda: not connections_of(pool), "its connections are closed")


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_retries_chains_and_failures(stack: Stack, effects: str, pool: str) -> None:
    stack.relay()
    stack.worker(f"--pool={pool}", "--concurrency=20")
    assert tasks.retry_by_hand.delay(effects, 2).get(timeout=60) == 2
    assert (tasks.effect.si(effects, "1") | tasks.effect.si(effects, "2")).delay().get(timeout=60) == "2"
    with pytest.raises(KeyError, match="gone"):
        tasks.fail.delay("gone").get(timeout=60)


def test_a_time_limit_under_gevent_leaves_the_pool_whole(stack: Stack, effects: str, gate: Path) -> None:
    stack.relay()
    stack.worker("--pool=gevent", "--concurrency=20")
    results = [
        tasks.hold.apply_async([effects, str(number), str(gate)], time_limit=1, soft_time_limit=0)
        for number in range(15)
    ]
    until(done, "all are ended at their limit")
    assert {TaskRun.of(result).error_type for result in results} == {"TimeLimitExceeded"}
    assert tasks.effect.delay(effects, "after").get(timeout=60) == "after"


def test_a_greedy_greenlet_does_not_stop_the_heartbeat(stack: Stack, effects: str) -> None:
    """It never yields to the hub for twice the silence after which a worker is dead."""
    stack.relay()
    stack.worker("--pool=gevent", "--concurrency=10")
    result = tasks.compute.delay(10.0)
    until(lambda: TaskRun.of(result).started_at, "it computes")
    assert result.get(timeout=120) == "computed"
    assert (TaskRun.of(result).attempt, WorkerRow.objects.get().dead_at) == (1, None)
