"""PgQueuer, in Postgres only, by asyncpg as its documentation shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import AsyncCalls

BATCH = 10
"""Jobs that a worker takes at once: the default of its command line."""


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    """Yield the worker. Its command line looks for this function."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    pgqueuer = PgQueuer(AsyncpgDriver(connection))

    @pgqueuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        assert job.payload is not None
        effect(json.loads(job.payload)["number"])

    yield pgqueuer
    await connection.close()


_opened: list[tuple[asyncpg.Connection, Queries]] = []


async def caller() -> tuple[asyncpg.Connection, Queries]:
    if not _opened:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        _opened.append((connection, Queries(AsyncpgDriver(connection))))
    return _opened[0]


def body(number: int, payload: str) -> bytes:
    return json.dumps({"number": number, "payload": payload}).encode()


async def each(numbers: Iterable[int], payload: str) -> None:
    _, queries = await caller()
    for number in numbers:
        await queries.enqueue("noop", body(number, payload))


async def together(numbers: Iterable[int], payload: str) -> None:
    connection, queries = await caller()
    bodies = [body(number, payload) for number in numbers]
    async with connection.transaction():
        await queries.enqueue(["noop"] * len(bodies), bodies, [0] * len(bodies))


def prepare() -> None:
    for command in ("install", "autovac"):  # what its documentation lists for production
        subprocess.run([PYTHON, "-m", "pgqueuer", "--pg-dsn", os.environ["DATABASE_URL"], command], check=True)


worker = (PYTHON, "-m", "pgqueuer", "run", "--shutdown-on-listener-failure", f"{__name__}:main")
PEER = Peer(
    title="PgQueuer",
    distributions=("pgqueuer", "asyncpg"),
    workers=(worker, worker),
    calls=AsyncCalls(each, together),
    slots=2 * BATCH,
    prepare=prepare,
)
