"""Pressroom, the whole application: relay and worker as deployed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

from celery import shared_task

from app.local.up import worker
from app.queues import BY_NAME, DEFAULT_QUEUE
from bench.peers import PYTHON, Peer, effect


@shared_task(name="bench.noop")
def durable(number: int, payload: str) -> None:
    effect(number)


@shared_task(name="bench.plain", durable=False)
def plain(number: int, payload: str) -> None:
    effect(number)


def ours(title: str, delay: Callable[[int, str], object]) -> Peer:
    """The stack with the one kind of calls or the other."""

    def call_many(numbers: Iterable[int], payload: str) -> None:
        for number in numbers:
            delay(number, payload)

    return Peer(
        title=title,
        distributions=("celery", "django"),
        workers=((*worker(BY_NAME[DEFAULT_QUEUE]), f"--include={__name__}"),),
        call=delay,
        transactional=True,
        call_many=call_many,
        beside=((PYTHON, "manage.py", "relay"),),
        beside_ready="relay: ready",
    )
