"""A deep backlog costs Redis nothing. `make backlog` is the long form: 50,000 tasks that wait ten minutes."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from pressroom.conf import WINDOW_LEAST, WINDOW_PER_SLOT
from pressroom.models import WAITING, TaskRun
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Stack
from tests.support.waiting import until

WORKERS, SLOTS = 2, 2
TASKS = int(os.environ.get("BACKLOG_TASKS", "2000"))
SECONDS = float(os.environ.get("BACKLOG_SECONDS", "15"))
"""How long they wait for a worker: several times the time after which a message is looked for."""


@pytest.mark.timeout(SECONDS + 300 + TASKS / 10)
def test_a_deep_backlog(stack: Stack, effects: str, redis_server: Any, tmp_path: Path) -> None:
    for start in range(0, TASKS, 1000):
        with transaction.atomic():
            for number in range(start, min(start + 1000, TASKS)):
                tasks.effect.delay(effects, str(number))
    # As in production: on a busy machine a worker takes a while from taking a message to claiming its run.
    stack.timing["TASKRUNS_UNCLAIMED"] = "10"
    pushed_file = str(tmp_path / "pushed")
    client = redis_server.client()
    before = client.info("memory")["used_memory"]
    stack.start([sys.executable, "-m", "tests.support.probes.relay_counting"], "relay: ready", PUSHED_FILE=pushed_file)
    until(lambda: client.llen("default") == WINDOW_LEAST, "the window is full")

    lengths, memory = [], []
    begun = time.monotonic()
    flushed = False

    def waited() -> bool:
        nonlocal flushed
        lengths.append(client.llen("default"))
        memory.append(client.info("memory")["used_memory"] - before)
        if not flushed and time.monotonic() - begun > SECONDS / 2:
            client.flushall()
            flushed = True
        time.sleep(0.1)
        return time.monotonic() - begun > SECONDS

    until(waited, "the wait is over", timeout=SECONDS * 10)
    until(lambda: client.llen("default") == WINDOW_LEAST, "what was flushed is there again")
    assert TaskRun.objects.filter(status__in=WAITING).count() == TASKS

    for _ in range(WORKERS):
        stack.worker(f"--concurrency={SLOTS}")

    def drained() -> bool:
        lengths.append(client.llen("default"))
        memory.append(client.info("memory")["used_memory"] - before)
        time.sleep(0.2)
        return done()

    until(drained, "all are done", timeout=300 + TASKS / 10)

    pushed = sum(map(int, noted(pushed_file)))
    print(
        f"{TASKS} tasks waited {SECONDS:.0f} s: {pushed} messages pushed ({pushed / TASKS:.3f} a task), "
        f"at most {max(lengths)} in Redis, which grew by {max(memory) / 1e6:.1f} MB at most"
    )
    assert sorted(map(int, noted(effects))) == list(range(TASKS))
    # The window is pushed again after the FLUSHALL; that is all.
    assert pushed <= TASKS + WINDOW_LEAST
    assert max(lengths) <= max(WINDOW_LEAST, WINDOW_PER_SLOT * WORKERS * SLOTS)
    assert max(memory) < 5e6
