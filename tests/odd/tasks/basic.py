"""The plain task, and one that takes whatever it is called with."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task
from django.db import connection

LONGEST_HOLD = 5.0


def effect(call: str, part: str) -> None:
    """One row, in a table without any constraint, which is able to show doubles."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO odd_effect (call, part) VALUES (%s, %s)", [call, part])


@shared_task(name="odd.plain", atomic=True)
def plain(call: str, part: str) -> None:
    effect(call, part)


@shared_task(name="odd.take", atomic=True)
def take(call: str, *args: Any, **kwargs: Any) -> None:
    effect(call, "odd")


@shared_task(name="odd.hold", atomic=True)
def hold(call: str, seconds: float, *args: Any) -> None:
    """Work for so long, in small steps."""
    end = time.monotonic() + min(seconds, LONGEST_HOLD)
    while time.monotonic() < end:
        time.sleep(0.02)
    effect(call, "odd")


@shared_task(name="odd.step")
def step(*args: Any, **kwargs: Any) -> int:
    """A part of something larger: takes anything, and returns a number."""
    return 1


@shared_task(name="odd.told")
def told(*args: Any, **kwargs: Any) -> None:
    """An errback of the new kind: called with the request, the exception and the traceback, or as a plain task."""


@shared_task(name="odd.fails")
def fails(*args: Any, **kwargs: Any) -> None:
    raise LookupError("a step that fails")
