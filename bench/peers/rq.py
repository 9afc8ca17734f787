"""RQ with a choice of worker class."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.peers.settings")
os.environ["RQ_REDIS_URL"] = f"{os.environ['REDIS_URL']}/0"

import redis
from rq import Queue

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls

queue = Queue(connection=redis.Redis.from_url(os.environ["RQ_REDIS_URL"]))


def noop(number: int, payload: str) -> None:
    effect(number)


def rq(title: str, worker_class: str) -> Peer:
    """Return a peer with two workers of the class, because RQ's worker runs only one job at a time."""
    worker = (PYTHON, "-m", "rq.cli", "worker", "--worker-class", worker_class)
    return Peer(
        title=title,
        distributions=("rq",),
        workers=(worker, worker),
        calls=DjangoCalls(lambda number, payload: queue.enqueue(noop, number, payload)),
    )
