"""Procrastinate with its own Django app, in Postgres only."""

from __future__ import annotations

from collections.abc import Iterable

from procrastinate.contrib.django import app

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls


@app.task(name="bench.noop")
def noop(number: int, payload: str) -> None:
    effect(number)


def call(number: int, payload: str) -> None:
    noop.defer(number=number, payload=payload)


def call_many(numbers: Iterable[int], payload: str) -> None:
    noop.batch_defer(*({"number": number, "payload": payload} for number in numbers))


worker = (PYTHON, "-m", "django", "procrastinate", "worker", "--concurrency", "1")
PEER = Peer(
    title="Procrastinate",
    distributions=("procrastinate",),
    workers=(worker, worker),
    calls=DjangoCalls(call, call_many, transactional=True),
)
