"""``python -m bench.limits 10_000``: what limits cost Postgres, with as many keys, of which each has three runs.

PostgreSQL (durable, as installed) runs in a temporary folder. One session makes all statements of a run's life, as the
site, the relay and workers would. At first no place is free, and the relay looks in vain.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
import uuid

from bench.ledger import Meter
from bench.stack import stack

EACH = 3
"""Runs of each key."""
WINDOW = 400
TASK = "app.blog.tasks.reindex_post"


def main(keys: int) -> None:
    with stack():
        from celery import current_app
        from django.db import connection, transaction

        from pressroom.enqueue.limits import sync
        from pressroom.models import LiveRun
        from pressroom.sql import dispatch, ends, runs, workers

        task = current_app.tasks[TASK]
        task.concurrency, task.key = 1, "post_id"
        sync([task])
        worker = workers.register("bench@here", '["default"]', 1)
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        meter = Meter(keys * EACH)

        def call() -> None:
            for start in range(0, keys, 500):
                with transaction.atomic():
                    for key in range(start, min(start + 500, keys)):
                        for _ in range(EACH):
                            task.delay(key)

        meter.phase("call, 1,500 in a transaction", call)
        held = 0

        def fill() -> None:
            nonlocal held
            while taken := dispatch.take_due({"default": held + WINDOW}):
                held += len(taken)

        meter.phase("admit and publish the first of each", fill)
        assert held == keys, held
        rounds = []
        for _ in range(200):
            begun = time.perf_counter()
            assert not dispatch.take_due({"default": held + WINDOW})
            rounds.append(time.perf_counter() - begun)
        print(f"  a round in vain, with {keys:,} keys without a place: {statistics.median(rounds) * 1e3:.2f} ms")
        waiting = list(LiveRun.objects.filter(published_at__isnull=False).values_list("pk", flat=True))
        begun, done = time.perf_counter(), 0
        while waiting:
            for run_id in waiting[:WINDOW]:
                claim = runs.claim(run_id, uuid.uuid4(), worker)
                assert claim is not None
                assert ends.succeed(claim, "null")
                done += 1
            del waiting[:WINDOW]
            waiting += [row.run_id for row in dispatch.take_due({"default": len(waiting) + WINDOW})]
        seconds = time.perf_counter() - begun
        assert done == keys * EACH, done
        print(f"  claim, end, and admit the next: {done / seconds:,.0f} runs a second in one session")


if __name__ == "__main__":
    main(int(re.sub(r"[_,]", "", sys.argv[1])))
