"""Oban for Python, in Postgres only: jobs of asyncio, worked off by its command line.

Oban inserts by asyncio alone. `call_in_django` lets it insert on Django's connection.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from oban import Oban, worker
from oban.job import Job
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import AsyncCalls, run

LIMIT = 10
"""Jobs at the same time in each worker, as in Oban's documentation."""


@worker(queue="default")
class Noop:
    async def process(self, job: Job) -> None:
        effect(job.args["number"])


_opened: list[Oban] = []


async def oban() -> Oban:
    """Return the caller's client. It has no queues, so it works off no jobs."""
    if not _opened:
        _opened.append(Oban(pool=await Oban.create_pool(os.environ["DATABASE_URL"])))
    return _opened[0]


async def each(numbers: Iterable[int], payload: str) -> None:
    client = await oban()
    for number in numbers:
        await client.enqueue(Noop.new({"number": number, "payload": payload}))


async def together(numbers: Iterable[int], payload: str) -> None:
    client = await oban()
    jobs = (Noop.new({"number": number, "payload": payload}) for number in numbers)
    async with client._connection() as connection, connection.transaction():
        await client.enqueue_many(jobs, conn=connection)


async def make_tables() -> None:
    async with AsyncConnectionPool(os.environ["DATABASE_URL"], open=False) as pool:
        await install(pool)


class DjangoConnection:
    """Django's connection as "any object with a compatible execute() method", which Oban inserts by."""

    async def execute(self, sql: str, parameters: dict[str, Any]) -> DjangoConnection:
        from django.db import connection

        self._cursor = connection.cursor()
        self._cursor.execute(sql, parameters)
        return self

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._cursor.fetchone()


@cache
def in_django() -> Oban:
    return Oban(pool=AsyncConnectionPool(os.environ["DATABASE_URL"], open=False))


def finished(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that never waits, without an event loop. Raises RuntimeError if it waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("Oban waited for something else than Django's connection")


def call_in_django(number: int, payload: str) -> None:
    """Insert a job in Django's transaction, with Oban's own code."""
    job = Noop.new({"number": number, "payload": payload})
    finished(in_django().enqueue(job, conn=DjangoConnection()))


start = (
    PYTHON, "-m", "oban", "start", "--config", str(Path(__file__).with_suffix(".toml")), "--cron-modules", __name__,
    "--queues", f"default:{LIMIT}", "--dsn", os.environ["DATABASE_URL"],
)  # fmt: skip
PEER = Peer(
    title="Oban for Python",
    distributions=("oban", "psycopg"),
    workers=(start, start),
    calls=AsyncCalls(each, together),
    slots=2 * LIMIT,
    prepare=lambda: run(make_tables()),
)
