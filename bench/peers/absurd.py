"""Absurd, in Postgres only: a task without steps, called by its synchronous client on Django's connection."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from absurd_sdk import Absurd

from bench.peers import PYTHON, Peer, effect
from bench.peers.calls import DjangoCalls

CLAIM_TIMEOUT = 30
"""Seconds after which a killed worker's task is claimed again: about as soon as ours, not after two minutes."""


def noop(params: Any, ctx: Any) -> None:
    effect(params["number"])


def registered(app: Absurd) -> Absurd:
    app.register_task(name="noop")(noop)
    return app


@cache
def caller() -> Absurd:
    from django.db import connection

    connection.ensure_connection()
    return registered(Absurd(connection.connection))


def call(number: int, payload: str) -> None:
    caller().spawn("noop", {"number": number, "payload": payload})


def call_many(numbers: Iterable[int], payload: str) -> None:
    for number in numbers:
        call(number, payload)


def prepare() -> None:
    program = str(Path(sys.executable).with_name("absurdctl"))
    env = os.environ | {"PGDATABASE": os.environ["DATABASE_URL"]}
    for command in (["init"], ["create-queue", "default"]):
        subprocess.run([program, *command], env=env, check=True)


PEER = Peer(
    title="Absurd",
    distributions=("absurd-sdk",),
    workers=((PYTHON, "-m", __name__),) * 2,
    calls=DjangoCalls(call, call_many, transactional=True),
    prepare=prepare,
)

if __name__ == "__main__":
    registered(Absurd(os.environ["DATABASE_URL"])).start_worker(claim_timeout=CLAIM_TIMEOUT)
