"""Huey with Redis."""

import os

from huey import RedisHuey

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls

huey = RedisHuey("bench", url=f"{os.environ['REDIS_URL']}/0")


@huey.task()
def noop(number: int, payload: str) -> None:
    effect(number)


PEER = Peer(
    title="Huey",
    distributions=("huey",),
    workers=((PYTHON, "-m", "huey.bin.huey_consumer", f"{__name__}.huey", "-w", "2", "-k", "process"),),
    calls=DjangoCalls(noop),
)
