"""``make bench-ledger``: what a task costs Postgres, by message and by exchange: WAL and the server's CPU.

PostgreSQL (durable, as installed) runs in a temporary folder. One session makes all statements of a task's life, as the
site, the relay and a worker would. Each phase begins after a checkpoint, so its WAL contains full-page images as it
does in production. The exit code is 1 if a task writes more than its limit.
"""

from __future__ import annotations

import random
import re
import string
import sys
import uuid
from collections.abc import Callable
from typing import Any

import psutil

from bench.stack import stack

BY_MESSAGE, BY_EXCHANGE = 7.5, 6.5
"""Maximum KB of WAL of a task."""
PAYLOAD = 1000
"""Bytes of each task's argument."""
WINDOW = 40


class Meter:
    """Measures phases of the session's work."""

    def __init__(self, tasks: int) -> None:
        from django.db import connection

        self._tasks = tasks
        self._cursor = connection.cursor()
        self._session = psutil.Process(connection.connection.info.backend_pid)

    def phase(self, name: str, work: Callable[[], Any]) -> tuple[float, float]:
        """Do the work and print it. Returns KB of WAL and microseconds of the server's CPU for each task."""
        self._cursor.execute("CHECKPOINT")
        wal, cpu = self._wal(), self._cpu()
        work()
        kilobytes = (self._wal() - wal) / self._tasks / 1024
        microseconds = (self._cpu() - cpu) / self._tasks * 1e6
        print(f"  {name:36}{kilobytes:7.2f} KB of WAL {microseconds:7.0f} µs of CPU", flush=True)
        return kilobytes, microseconds

    def _wal(self) -> int:
        self._cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(self._cursor.fetchall()[0][0])

    def _cpu(self) -> float:
        times = self._session.cpu_times()
        return float(times.user + times.system)


TASK = "app.blog.tasks.reindex_post"


def call(tasks: int) -> None:
    """Call a task so many times, one by one."""
    from app.celery import app

    for _ in range(tasks):
        text = "".join(random.choices(string.ascii_letters, k=PAYLOAD))  # noqa: S311 - no secret
        app.send_task(TASK, (text,), queue="default")


def by_message(tasks: int, worker: int) -> float:
    """Store, publish, claim and end each task. Returns the KB of WAL of one."""
    from pressroom.sql import dispatch, ends, runs

    meter = Meter(tasks)
    print("By message")
    phases = [meter.phase("call, one by one", lambda: call(tasks))]
    published: list[uuid.UUID] = []

    def publish() -> None:
        while taken := dispatch.take_due({"default": len(published) + WINDOW}):
            published.extend(row.run_id for row in taken)

    phases.append(meter.phase(f"publish, {WINDOW} at a time", publish))
    claims: list[runs.Claim] = []

    def claim() -> None:
        for run_id in published:
            got = runs.claim(run_id, uuid.uuid4(), worker)
            assert got is not None
            claims.append(got)

    phases.append(meter.phase("claim", claim))
    phases.append(meter.phase("end", lambda: [ends.succeed(one, "null") for one in claims]))
    return _sum(phases)


def by_exchange(tasks: int, worker: int) -> float:
    """Store each task, and end each with the statement that claims the next. Returns the KB of WAL of one."""
    from pressroom.sql import backlog, dispatch, ends, runs

    meter = Meter(tasks)
    print("By exchange")
    call(1)
    [row] = dispatch.take_due({"default": 1})
    limits = re.search(r'"timelimit": \[[^]]*\]', row.headers)
    claim = runs.claim(row.run_id, uuid.uuid4(), worker)
    assert claim is not None
    assert limits is not None
    assert ends.succeed(claim, "null")
    phases = [meter.phase("call, one by one", lambda: call(tasks))]
    done = 0

    def exchange() -> None:
        nonlocal done
        ended: list[backlog.SuccessToWrite] = []
        while True:
            _, taken = backlog.finish_and_claim(claim.token, worker, "default", 0, ended, [TASK], [], limits[0], 1)
            done += len(ended)
            if not taken:
                break
            ended = [backlog.SuccessToWrite(taken[0].claim, "null", None, 0.001, 0.0)]

    phases.append(meter.phase("end one, claim the next", exchange))
    assert done == tasks, done
    return _sum(phases)


def _sum(phases: list[tuple[float, float]]) -> float:
    kilobytes, microseconds = (sum(column) for column in zip(*phases, strict=True))
    print(f"  {'in all':36}{kilobytes:7.2f} KB of WAL {microseconds:7.0f} µs of CPU\n")
    return kilobytes


def main(tasks: int) -> int:
    with stack():
        from django.db import connection

        from pressroom.sql import workers

        worker = workers.register("bench@here", '["default"]', 1)
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        # The first round fills the tables, so that the second changes pages as a running system does.
        for _ in range(2):
            message, exchange = by_message(tasks, worker), by_exchange(tasks, worker)
        for way, most, found in (("message", BY_MESSAGE, message), ("exchange", BY_EXCHANGE, exchange)):
            print(f"WAL of a task by {way} ≤ {most} KB: {found:.1f}, {'yes' if found <= most else 'no'}")
    return 0 if message <= BY_MESSAGE and exchange <= BY_EXCHANGE else 1


if __name__ == "__main__":
    sys.exit(main(int(re.sub(r"[_,]", "", sys.argv[1]))))
