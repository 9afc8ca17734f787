"""Database connections of a worker: one for each process under prefork, a bounded pool for threads and greenlets."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connection, connections, transaction

logger = logging.getLogger(__name__)
_connection: Any = connection  # pressroom.database's, which the stubs take for Django's


def rows_of(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Execute one of the statements that every task needs on the default connection, and return its rows."""
    found: list[tuple[Any, ...]] = _connection.rows(statement, parameters)
    return found


def pool_connections(worker: Any) -> None:
    """Give a worker with threads or greenlets a pool, so that a hundred slow runs do not need a hundred connections.

    Call it before the first of them connects. Workers with prefork or solo keep one connection for each process.
    """
    if worker.pool_cls.__module__.rpartition(".")[2] in ("prefork", "solo"):
        return
    size = min(worker.concurrency, settings.TASKRUNS_POOL_CONNECTIONS)
    ours = connections.settings[DEFAULT_DB_ALIAS]
    ours["CONN_MAX_AGE"] = 0
    ours["OPTIONS"]["pool"] = {"min_size": 0, "max_size": size}


class Guard:
    """Protects the transaction of an atomic run while handlers and hooks run in it, before and after the body.

    What they write is committed with the run. If one of them tries to close the connection, leaves an atomic block open
    or breaks the transaction by a statement, everything that they wrote since `enter` is undone, and the transaction
    goes on.
    """

    def __init__(self) -> None:
        self._savepoint: str | None = None
        self._depth, self._blocks = 0, 0

    def enter(self) -> None:
        """Handlers and hooks run from now on. Their first statement costs a savepoint."""
        _connection.is_kept = True
        self._depth, self._blocks = len(_connection.savepoint_ids), len(_connection.atomic_blocks)
        self._savepoint = None
        _connection.write_held()
        _connection.held = self._save

    def _save(self, and_commit: bool) -> None:
        self._savepoint = transaction.savepoint()

    def leave(self) -> None:
        """The run's own code runs from now on."""
        self.drop()
        is_open = len(_connection.savepoint_ids) > self._depth
        del _connection.savepoint_ids[self._depth :], _connection.atomic_blocks[self._blocks :]
        is_broken = is_open or _connection.is_broken
        _connection.needs_rollback = False
        if self._savepoint is None:
            return
        if is_broken:
            logger.error("a handler or hook broke the transaction of an atomic task: its writes are undone")
            transaction.savepoint_rollback(self._savepoint)
        transaction.savepoint_commit(self._savepoint)
        self._savepoint = None

    def drop(self) -> None:
        """End the protection: the transaction is over."""
        _connection.is_kept = False
        if _connection.held == self._save:
            _connection.held = None


class OpenBlocks:
    """The atomic blocks that are open when this object is made."""

    def __init__(self) -> None:
        self._savepoints = list(_connection.savepoint_ids)
        self._blocks = list(_connection.atomic_blocks)

    def restore(self) -> bool:
        """Have the same blocks open again. Returns whether others were: code left some open, or closed these.

        What the others hold is undone with the innermost of these blocks, which the caller ends with an error.
        """
        savepoints, blocks = _connection.savepoint_ids, _connection.atomic_blocks
        if savepoints == self._savepoints and blocks == self._blocks:
            return False
        if savepoints[: len(self._savepoints)] != self._savepoints or not _connection.in_atomic_block:
            # One of these blocks was ended: its savepoint is gone.
            _connection.in_atomic_block = _connection.needs_rollback = True
        savepoints[:], blocks[:] = self._savepoints, self._blocks
        return True


class OpenTransactions:
    """Protects the end of a run that is not atomic from a transaction that its body or a handler left open."""

    def __init__(self) -> None:
        self._was_in_atomic_block = connection.in_atomic_block

    def leave(self) -> None:
        """The run's own code runs from now on. Rolls back a transaction that was left open."""
        is_open = _connection.in_atomic_block != self._was_in_atomic_block
        if is_open or (not self._was_in_atomic_block and not _connection.autocommit and _connection.connection):
            logger.error("a task, a handler or a hook left a transaction open: its writes are undone")
            _connection.forget_transaction()

    def enter(self) -> None:
        """Do nothing: there is no transaction to protect."""

    drop = enter


def prepare_connection() -> None:
    """Prepare the connection for the next run: close it if the last run broke it, and otherwise skip Django's check.

    The claim follows at once. It is repeated if it fails, so it serves as the check.
    """
    close_old_connections()
    _connection.health_check_done = True
    _connection.asked_at = time.monotonic()


def give_back() -> None:
    """Return the connection to the pool, if there is one, so that another thread can use it."""
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close()


def start_afresh() -> None:
    """Close the connection, whatever is open in it: the next statement gets a new one.

    ``close()`` alone keeps a connection whose atomic block somebody left open, and each later statement would fail.
    Call it only where no atomic block of the caller's own is open.
    """
    _connection.forget_transaction()


def own_connection() -> None:
    """Give this thread a connection outside the pool, so that it never waits for the pool."""
    own = connections[DEFAULT_DB_ALIAS].copy()
    own.settings_dict["OPTIONS"].pop("pool", None)
    connections[DEFAULT_DB_ALIAS] = own
