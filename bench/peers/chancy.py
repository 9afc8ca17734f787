"""Chancy, in Postgres only: jobs of asyncio, a hundred at the same time in each of two workers (its default).

``python -m bench.peers.chancy`` runs a worker, as its command line does, with a shorter heartbeat.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from chancy import Chancy, Job, Queue, Worker
from chancy.plugins.leadership import Leadership
from chancy.plugins.recovery import Recovery
from psycopg.rows import dict_row

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls

# Without eager polling, a worker that is full asks for more only every five seconds.
QUEUE = Queue("default", executor=Chancy.Executor.Async, eager_polling=True)
JOBS = 100
"""The default number of a worker's jobs at the same time with this executor."""


async def noop(*, number: int, payload: str) -> None:
    effect(number)


def chancy() -> Chancy:
    # A killed worker's jobs are recovered about as soon as ours, not after minutes.
    plugins = [Leadership(poll_interval=5, timeout=10), Recovery(poll_interval=5)]
    return Chancy(os.environ["DATABASE_URL"], plugins=plugins)


caller = chancy()


def job(number: int, payload: str) -> Job:
    return Job.from_func(noop, queue=QUEUE.name).with_kwargs(number=number, payload=payload)


def call_many(numbers: Iterable[int], payload: str) -> None:
    """Push the jobs with the cursor of Django's transaction."""
    from django.db import connection

    connection.ensure_connection()
    with connection.connection.cursor(row_factory=dict_row) as cursor:
        caller.sync_push_many_ex(cursor, [job(number, payload) for number in numbers])


def call(number: int, payload: str) -> None:
    from django.db import connection

    if connection.in_atomic_block:
        call_many([number], payload)
    else:
        caller.sync_push(job(number, payload))


async def make_tables() -> None:
    async with chancy() as app:
        await app.migrate()
        await app.declare(QUEUE)


async def work() -> None:
    async with chancy() as app, Worker(app, heartbeat_poll_interval=5, heartbeat_timeout=20) as worker:
        await worker.wait_for_shutdown()


PEER = Peer(
    title="Chancy, asyncio",
    distributions=("chancy",),
    workers=((PYTHON, "-m", __name__),) * 2,
    calls=DjangoCalls(call, call_many, transactional=True),
    slots=2 * JOBS,
    prepare=lambda: asyncio.run(make_tables()),
)

if __name__ == "__main__":
    asyncio.run(work())
