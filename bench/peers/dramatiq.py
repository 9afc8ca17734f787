"""Dramatiq with its Redis broker."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls

dramatiq.set_broker(RedisBroker(url=f"{os.environ['REDIS_URL']}/0"))


@dramatiq.actor
def noop(number: int, payload: str) -> None:
    effect(number)


PEER = Peer(
    title="Dramatiq",
    distributions=("dramatiq",),
    workers=((PYTHON, "-m", "dramatiq", __name__, "--processes", "2", "--threads", "1"),),
    calls=DjangoCalls(noop.send),
)
