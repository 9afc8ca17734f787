"""The kinds of tasks, the same under our application and under stock Celery.

All but ``outside`` have their effect in a table without any constraint, which is able to show doubles.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import chord, shared_task
from django.db import InterfaceError, OperationalError, connection

from tests.fault_injection.local.calls import CHUNK, CHUNKS, HEADER
from tests.support.notes import note

FOLDER = os.environ["ORACLE_FOLDER"]
LONGEST_PAUSE = float(os.environ.get("ORACLE_PAUSE", "0.06"))
"""Seconds of work before the effect, and again after it, at most."""

# Postgres away in the middle of a body is an error of the body: a task that minds says so, under either Celery.
AGAIN: dict[str, Any] = {
    "bind": True, "autoretry_for": (OperationalError, InterfaceError), "max_retries": None,
    "default_retry_delay": 0.5, "retry_backoff": False,
}  # fmt: skip


@contextmanager
def _working(call: str, part: str) -> Iterator[None]:
    """Notes the process that works on the task; there is time to die before the effect, and after it."""
    note(f"{FOLDER}/working", f"{time.time()} {os.getpid()} begins {call} {part}")
    try:
        time.sleep(random.random() * LONGEST_PAUSE)
        yield
        time.sleep(random.random() * LONGEST_PAUSE)
    finally:
        note(f"{FOLDER}/working", f"{time.time()} {os.getpid()} ends {call} {part}")


def _effect(call: str, part: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO oracle_effect (call, part) VALUES (%s, %s)", [call, part])


def _key(request: Any) -> Any:
    """The run's key; stock Celery has its task's id."""
    if getattr(request, "taskrun", None) is None:
        return request.id
    from pressroom.context import current_run_id

    return current_run_id()


@shared_task(name="oracle.transactional", atomic=True, **AGAIN)
def transactional(self: Any, call: str, part: str = "effect") -> None:
    with _working(call, part):
        _effect(call, part)


@shared_task(name="oracle.quick", atomic=True, **AGAIN)
def quick(self: Any, call: str) -> None:
    """Nobody is told that it works on it: its effect is all that it does."""
    _effect(call, "effect")


@shared_task(name="oracle.outside", **AGAIN)
def outside(self: Any, call: str) -> None:
    """Its effect is a line in a file, with the run's key, as a payment's `Idempotency-Key` would be."""
    with _working(call, "effect"):
        note(f"{FOLDER}/effects", f"{call} {_key(self.request)} {time.time()}")


@shared_task(name="oracle.fan_out", atomic=True, **AGAIN)
def fan_out(self: Any, call: str, chunk: int = 0) -> None:
    """Calls its children chunk by chunk, and goes on as the next chunk."""
    with _working(call, f"chunk {chunk}"):
        _effect(call, f"chunk {chunk}")
        for child in range(chunk * CHUNK, (chunk + 1) * CHUNK):
            transactional.delay(call, f"child {child}")
    if chunk + 1 < CHUNKS:
        raise self.replace(fan_out.s(call, chunk + 1))


@shared_task(name="oracle.part", atomic=True, **AGAIN)
def part(self: Any, call: str, number: int) -> int:
    with _working(call, f"part {number}"):
        _effect(call, f"part {number}")
    return number


@shared_task(name="oracle.callback", atomic=True, **AGAIN)
def callback(self: Any, results: list[int], call: str) -> None:
    with _working(call, "callback"):
        _effect(call, "callback" if results == list(range(HEADER)) else f"callback with {results}")


def make(call: str, kind: str) -> None:
    """Call a task of the kind."""
    if kind == "chord":
        chord([part.s(call, number) for number in range(HEADER)], callback.s(call)).delay()
    else:
        {"transactional": transactional, "quick": quick, "outside": outside, "fan-out": fan_out}[kind].delay(call)
