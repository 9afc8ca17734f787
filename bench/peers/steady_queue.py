"""Steady Queue, a backend of ``django.tasks`` in Postgres: two processes of three threads each (its default)."""

from __future__ import annotations

from collections.abc import Iterable

from django.tasks import task

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls


@task()
def noop(number: int, payload: str) -> None:
    effect(number)


def call_many(numbers: Iterable[int], payload: str) -> None:
    for number in numbers:
        noop.enqueue(number, payload)


PEER = Peer(
    title="Steady Queue",
    distributions=("steady-queue",),
    workers=((PYTHON, "-m", "django", "steady_queue"),),
    calls=DjangoCalls(noop.enqueue, call_many, transactional=True),
    slots=2 * 3,
)
