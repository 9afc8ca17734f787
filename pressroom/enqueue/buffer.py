"""From calls to rows: at once, or within a transaction many in one statement.

There they are held back until the caller asks the database anything else, which so finds them, or commits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from pressroom.enqueue.wakeup import waker
from pressroom.process import kill_points
from pressroom.sql import runs

MOST = 500
"""Calls in one statement."""
# pressroom.database's, which the stubs take for Django's.
_connection: Any = connection


class Batch:
    """Calls of the transaction that is open."""

    def __init__(self) -> None:
        self.rows: list[runs.Message] = []

    def __call__(self) -> None:
        _insert(self.rows)


def store(row: runs.Message, hold: bool) -> None:
    """Store a call, with ``hold`` perhaps later in its transaction. Wakes the relay once it is committed.

    Raises DuplicateTaskIdError where a live run has the call's id; a call that may have such a one is not to be held.
    """
    if not hold or not connection.in_atomic_block:
        _insert([row])
        after_commit(_committed)
        return
    batch = _connection.held
    if not isinstance(batch, Batch):
        _connection.write_held()
        batch = _connection.held = Batch()
        transaction.on_commit(_committed)
    batch.rows.append(row)
    if len(batch.rows) >= MOST:
        _connection.write_held()


def after_commit(call: Callable[[], None]) -> None:
    """At once where no ``atomic`` block is open."""
    if connection.in_atomic_block:
        transaction.on_commit(call)
    else:
        call()


def _insert(rows: list[runs.Message]) -> None:
    runs.insert(rows)
    kill_points.reach("call.stored")


def _committed() -> None:
    kill_points.reach("call.committed")
    waker.wake()
