"""Every pool runs tasks by the ledger, with its connections bounded."""

from pathlib import Path

import pytest
from django.db import connection

from app.taskruns.models import Status, TaskRun
from app.taskruns.models import Worker as WorkerRow
from tests.probes import tasks
from tests.probes.ledger import done
from tests.processes import Stack
from tests.waiting import until


def connections_of(pid: int) -> int:
    """How many connections to Postgres the process and its children have."""
    import psutil

    process = psutil.Process(pid)
    port = int(connection.settings_dict["PORT"])
    return sum(
        1
        for one in (process, *process.children(recursive=True))
        for socket in one.net_connections(kind="tcp")
        if socket.raddr and socket.raddr.port == port and socket.status == psutil.CONN_ESTABLISHED
    )


@pytest.mark.parametrize(
    ("pool", "concurrency", "calls", "bound"),
    # A connection for the heartbeat, and one a process or the pool's ten.
    [("prefork", 4, 4, 4 + 1), ("threads", 100, 100, 10 + 1), ("gevent", 100, 100, 10 + 1), ("solo", 1, 1, 1 + 1)],
)
def test_slow_calls_at_once(
    stack: Stack, effects: str, gate: Path, pool: str, concurrency: int, calls: int, bound: int
) -> None:
    stack.relay()
    worker = stack.worker(f"--pool={pool}", f"--concurrency={concurrency}")
    for _ in range(calls):
        tasks.slow_call.delay(effects, str(gate))
    most = 0

    def all_called() -> bool:
        nonlocal most
        most = max(most, connections_of(worker.pid))
        return len(tasks.noted(effects)) == calls

    until(all_called, "all are called at once")
    gate.touch()
    until(lambda: (connections_of(worker.pid) <= bound) and done(), "all are answered")

    assert most <= bound
    assert tasks.noted(effects).count("answered") == calls
    assert set(TaskRun.objects.values_list("status", flat=True)) == {Status.SUCCEEDED}
    if pool != "solo":
        assert worker.stop() == 0


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
