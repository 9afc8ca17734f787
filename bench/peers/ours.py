"""Pressroom as a whole application: relay and worker as deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from celery import shared_task

from app.local.servers import free_port
from app.local.up import worker
from app.queues import BY_NAME, DEFAULT_QUEUE
from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls


@shared_task(name="bench.noop")
def durable(number: int, payload: str) -> None:
    effect(number)


@shared_task(name="bench.bundled", bundle=100)
def bundled(number: int, payload: str) -> None:
    effect(number)


# Its result is not kept either, like those of the application's own non-durable tasks.
@shared_task(name="bench.plain", durable=False, ignore_result=True)
def plain(number: int, payload: str) -> None:
    effect(number)


def counting() -> tuple[str, str]:
    """Return the prefix of a command that makes it serve its metrics, as in a pod."""
    return "env", f"METRICS_PORT={free_port()}"


def ours(title: str, delay: Callable[[int, str], object]) -> Peer:
    """Return Pressroom as a peer that makes its calls with ``delay``."""

    def call_many(numbers: Iterable[int], payload: str) -> None:
        for number in numbers:
            delay(number, payload)

    return Peer(
        title=title,
        distributions=("celery", "django"),
        workers=((*counting(), *worker(BY_NAME[DEFAULT_QUEUE]), f"--include={__name__}"),),
        calls=DjangoCalls(delay, call_many, transactional=True),
        beside=((*counting(), PYTHON, "manage.py", "relay"),),
        beside_ready="relay: ready",
    )
