"""django-tasks-db, a backend of ``django.tasks`` in Postgres."""

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
    title="django-tasks-db",
    distributions=("django-tasks-db",),
    workers=((PYTHON, "-m", "django", "db_worker"),) * 2,
    calls=DjangoCalls(noop.enqueue, call_many, transactional=True),
)
