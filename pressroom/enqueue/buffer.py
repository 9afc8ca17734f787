"""Store calls as rows: at once, or, within a transaction, many in one statement.

Within a transaction they are held back until the caller's next statement, which then finds their rows, or until its
commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from pressroom.enqueue.wakeup import waker
from pressroom.process import kill_points
from pressroom.sql import runs

MOST = 500
"""Calls in one statement at most."""
# The connection of pressroom.database. The stubs take it for Django's.
_connection: Any = connection


class Batch:
    """The calls that are held back in the open transaction."""

    def __init__(self) -> None:
        self.rows: list[runs.Message] = []

    def __call__(self, and_commit: bool) -> None:
        """Store them. With ``and_commit`` the statement may commit the transaction, too."""
        if and_commit and len(self.rows) == 1:
            runs.insert_and_commit(self.rows[0])
        else:
            _insert(self.rows)


def store(row: runs.Message, hold: bool) -> None:
    """Store a call and wake the relay after the commit. With ``hold`` it may be held back within its transaction.

    Raises DuplicateTaskIdError if a live run already has the call's id. Do not hold a call whose id may be in use: the
    error would come from a later statement.
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
    """Run ``call`` after the commit, or at once if no ``atomic`` block is open."""
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
