"""What a worker's /metrics tells is what the ledger has, whatever the pool and whoever died."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from django.db import connection, transaction

from app.local.servers import free_port
from app.queues import BY_NAME, QUEUES
from pressroom.models import Status, TaskAttempt, TaskRun
from pressroom.monitoring.queue_stats import read_ledger
from tests.reliability.loads import scrape, total
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

SUCCEED, FAIL, RETRY = 300, 40, 40


def kill_a_child(worker: Process) -> None:
    os.kill(random.choice(worker.children()), signal.SIGKILL)


@pytest.mark.parametrize(("pool", "slots"), [("prefork", 4), ("threads", 8), ("gevent", 8), ("solo", 1)])
def test_totals_are_the_ledgers(stack: Stack, effects: str, pool: str, slots: int) -> None:
    port, relay_port = free_port(), free_port()
    stack.relay(METRICS_PORT=str(relay_port))
    worker = stack.worker(f"--pool={pool}", f"--concurrency={slots}", METRICS_PORT=str(port))
    with transaction.atomic():
        for number in range(SUCCEED):
            tasks.bystander.delay(effects, str(number), 0.02)
            if number < FAIL:
                tasks.fail.delay("gone")
            if number < RETRY:
                tasks.retry_by_hand.delay(effects, 1)

    kills = 0
    while not done():
        if pool == "prefork" and kills < 8 and TaskRun.objects.exclude(finished_at=None).count() >= kills * 40:
            kill_a_child(worker)
            kills += 1
        time.sleep(0.05)
    lost = TaskAttempt.objects.filter(outcome="lost").count()
    calls = SUCCEED + FAIL + 2 * RETRY
    # The last child's word reaches the main process after the ledger.
    until(lambda: total(scrape(port), "celery_task_succeeded_total") >= SUCCEED + RETRY, "all are counted")
    told = scrape(port)
    print(f"{pool}: {calls} runs, {kills} children killed, {lost} attempts lost")

    queue = ("default",)
    assert told["celery_task_succeeded_total", "probe.bystander", *queue] == SUCCEED
    assert told["celery_task_succeeded_total", "probe.retry_by_hand", *queue] == RETRY
    assert told["celery_task_failed_total", "KeyError", "probe.fail", *queue] == FAIL
    assert told["celery_task_retried_total", "probe.retry_by_hand", *queue] == RETRY
    assert TaskAttempt.objects.filter(outcome="retried").count() == RETRY
    assert total(told, "celery_task_succeeded_total") == SUCCEED + RETRY
    assert total(told, "celery_task_failed_total") == FAIL
    assert total(told, "celery_task_retried_total") == RETRY
    assert total(told, "pressroom_task_lost_total") == lost
    sent = total(scrape(relay_port), "celery_task_sent_total") + total(told, "celery_task_sent_total")
    assert total(told, "celery_task_received_total") == sent
    assert told["celery_task_runtime_count", "probe.bystander", *queue] == pytest.approx(SUCCEED, abs=kills)
    started = total(told, "celery_task_started_total")
    # Where the child died, nobody knows how long what is lost or to be tried again had waited.
    untold = lost + RETRY if kills else 0
    assert started >= calls
    assert started - untold <= total(told, "celery_task_queue_wait_time_count") <= started
    assert told["celery_worker_tasks_active",] == 0
    if pool == "prefork":
        assert kills == 8
        assert lost > 0


def test_a_queues_length_is_its_due_and_unstarted_rows_at_every_sample(stack: Stack, effects: str) -> None:
    """Both are counted in one snapshot, while a relay and a worker are at it."""
    stack.relay()
    stack.worker("--concurrency=4")
    queues = [queue.name for queue in QUEUES]
    with transaction.atomic():
        for number in range(400):
            tasks.bystander.apply_async([effects, str(number), 0.01], queue=queues[number % 3])
            tasks.retry_by_hand.apply_async([effects, 1], queue=queues[number % 3])
    samples: list[dict[str, int]] = []
    while not done():
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute(
                    """
                    SELECT queue, count(*) FROM taskruns_taskrun
                    WHERE status IN ('queued', 'retrying') AND run_at <= now() GROUP BY queue
                    """
                )
                counted = dict(cursor.fetchall())
            told = {name: figures.due for name, figures in read_ledger().queues.items()}
        assert told == {name: counted.get(name, 0) for name in queues}
        samples.append(told)
    print(f"{len(samples)} samples, from {samples[0]} to {samples[-1]}")
    assert len({tuple(sample.values()) for sample in samples}) > 10


def test_what_has_an_outcome_of_its_own(stack: Stack, effects: str, gate: Path) -> None:
    """Limits, cancellations, rejections, the last attempt lost, and what is ignored."""
    port = free_port()
    stack.relay()
    stack.worker("--concurrency=2", METRICS_PORT=str(port))
    tasks.hold.apply_async([effects, "over", str(gate)], time_limit=1, soft_time_limit=0)
    tasks.overrun.delay(effects)
    tasks.reject.delay()
    tasks.reject_once.delay(f"{effects}.reject")
    tasks.step.delay(f"{effects}.steps", 1)
    cancelled = tasks.hold.delay(effects, "cancelled", str(gate))
    until(lambda: "cancelled started" in "".join(tasks.noted(effects)), "it runs")
    cancelled.revoke(terminate=True)
    suicides = tasks.suicide.delay(f"{effects}.suicide")
    until(done, "all are done")
    attempts = BY_NAME["default"].max_attempts

    def told() -> bool:
        return scrape(port)["celery_task_failed_total", "WorkerLostError", "probe.suicide", "default"] == 1

    until(told, "the last of them is counted")
    counted = scrape(port)
    assert TaskRun.of(suicides).status == Status.DEAD
    assert counted["pressroom_task_lost_total", "probe.suicide", "default"] == attempts - 1
    assert counted["celery_task_failed_total", "TimeLimitExceeded", "probe.hold", "default"] == 1
    assert counted["celery_task_failed_total", "SoftTimeLimitExceeded", "probe.overrun", "default"] == 1
    assert counted["celery_task_failed_total", "Reject", "probe.reject", "default"] == 1
    assert counted["celery_task_rejected_total", "probe.reject", "default"] == 1
    assert counted["celery_task_rejected_total", "probe.reject_once", "default"] == 1
    assert counted["celery_task_revoked_total", "probe.hold", "default"] == 1
    assert counted["celery_task_succeeded_total", "probe.step", "default"] == 1
    assert total(counted, "celery_task_failed_total") == 4
    gate.touch()


def test_a_greedy_greenlet_does_not_starve_the_scrape(stack: Stack) -> None:
    port = free_port()
    stack.relay()
    stack.worker("--pool=gevent", "--concurrency=10", METRICS_PORT=str(port))
    result = tasks.compute.delay(6.0)
    until(lambda: TaskRun.of(result).started_at, "it computes")
    assert scrape(port, timeout=3)["celery_worker_tasks_active",] == 1
    assert TaskRun.of(result).status == Status.RUNNING
    assert result.get(timeout=60) == "computed"


def test_a_port_that_is_taken_is_told_at_the_start(stack: Stack) -> None:
    port = str(free_port())
    stack.worker("-n", "one@%h", METRICS_PORT=port)
    with pytest.raises(AssertionError, match="Address already in use"):
        stack.worker("-n", "two@%h", METRICS_PORT=port)
