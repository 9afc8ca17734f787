"""Nothing grows without bound: no key in Redis, no table, no index. `make soak` is the long form of the tables."""

import os
import time
from typing import Any

import pytest
from django.db import connection, transaction

from app.celery import app
from pressroom import retention
from pressroom.models import TaskRun
from tests.support.probes import tasks
from tests.support.processes import Stack
from tests.support.waiting import until

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.3"))
RATE = 50
"""Tasks a second."""


def test_keys_of_redis_are_bounded(stack: Stack, effects: str, redis_server: Any) -> None:
    """Workers that are killed and inspected leave nothing behind that stays (celery#6089)."""
    client = redis_server.client()
    stack.relay()

    def round_of_life() -> set[bytes]:
        worker = stack.worker()
        assert tasks.effect.delay(effects, "done").get(timeout=60) == "done"
        # Not one of the pool, which a test that stopped Redis may have left there.
        with app.connection_for_write() as broker:
            assert app.control.inspect(timeout=0.5, connection=broker).ping()
        worker.kill()
        return {key for key in client.scan_iter() if client.ttl(key) < 0}

    after_two = [round_of_life() for _ in range(2)][-1]
    after_six = [round_of_life() for _ in range(4)][-1]
    members = {key: client.type(key) for key in after_six}
    sizes = {key: client.scard(key) for key, kind in members.items() if kind == b"set"}

    assert len(after_six) <= len(after_two), after_six - after_two
    assert all(size <= 10 for size in sizes.values()), sizes


def sizes() -> dict[str, int]:
    """Bytes of each of the ledger's tables and indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relname ~ '^taskr' AND relkind IN ('r', 'i')"
        )
        return dict(cursor.fetchall())


@pytest.mark.timeout(MINUTES * 60 + 600)
def test_tables_are_bounded_under_load(stack: Stack, effects: str, settings: Any) -> None:
    """Tasks come and go, pruned as they go. In the long form autovacuum has run, and then sizes stay as they are."""
    settings.TASKRUNS_RETENTION = dict.fromkeys(settings.TASKRUNS_RETENTION, MINUTES / 10 / 24 / 60)
    stack.relay()
    for _ in range(2):
        stack.worker()
    begun, called, most_rows = time.monotonic(), 0, 0
    half: dict[str, int] = {}
    while (age := time.monotonic() - begun) < MINUTES * 60:
        with transaction.atomic():
            for _ in range(RATE // 5):
                tasks.effect.delay(effects, "soak")
        called += RATE // 5
        if called % (RATE * 5) == 0:
            retention.prune()
            most_rows = max(most_rows, TaskRun.objects.count())
        if not half and age > MINUTES * 30:
            half = sizes()
        time.sleep(max(0.0, begun + called / RATE - time.monotonic()))
    end = sizes()
    grown = {name: (half[name], size) for name, size in end.items() if size > half.get(name, 0) * 1.2 + 1_000_000}
    before, after = sum(half.values()) / 1e6, sum(end.values()) / 1e6
    print(
        f"{called} tasks in {MINUTES} minutes, at most {most_rows} rows; {before:.1f} MB at half time, {after:.1f} MB"
    )
    until(lambda: not TaskRun.objects.exclude(status="succeeded").exists(), "the rest is done")

    # A tenth of the time is kept, and what waits, and what came since the last pruning.
    assert most_rows < called
    if MINUTES >= 10:
        assert not grown, grown
