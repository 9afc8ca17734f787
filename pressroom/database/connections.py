"""Database connections of a worker: one a process under prefork, a bounded pool for threads and greenlets."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connection, connections, transaction

logger = logging.getLogger(__name__)
_connection: Any = connection  # pressroom.database's, which the stubs take for Django's


def pool_connections(worker: Any) -> None:
    """Give a worker of threads or greenlets a pool: a hundred slow calls do not need a hundred connections.

    To be called before the first of them connects. Prefork and solo keep a connection a process.
    """
    if worker.pool_cls.__module__.rpartition(".")[2] in ("prefork", "solo"):
        return
    size = min(worker.concurrency, settings.TASKRUNS_POOL_CONNECTIONS)
    ours = connections.settings[DEFAULT_DB_ALIAS]
    ours["CONN_MAX_AGE"] = 0
    ours["OPTIONS"]["pool"] = {"min_size": 0, "max_size": size}


class Guard:
    """The transaction of an atomic run, in which code of others runs before and after the body.

    What handlers and hooks write is committed with the run. But if one of them closes the connection, leaves an atomic
    block open or breaks the transaction by a statement, what they all did since is undone, and the transaction goes on.
    """

    def __init__(self) -> None:
        self._savepoint: str | None = None
        self._depth, self._blocks = 0, 0

    def enter(self) -> None:
        """Others' code runs from now on. Costs a savepoint once it asks the database anything."""
        _connection.is_kept = True
        self._depth, self._blocks = len(_connection.savepoint_ids), len(_connection.atomic_blocks)
        self._savepoint = None
        _connection.write_held()
        _connection.held = self._save

    def _save(self) -> None:
        self._savepoint = transaction.savepoint()

    def leave(self) -> None:
        """The run's own code goes on."""
        self.drop()
        is_open = len(_connection.savepoint_ids) > self._depth
        del _connection.savepoint_ids[self._depth :], _connection.atomic_blocks[self._blocks :]
        is_broken = is_open or _connection.is_broken
        _connection.needs_rollback = False
        if self._savepoint is None:
            return
        if is_broken:
            logger.error("a handler or hook broke the transaction of an atomic task: what they wrote is undone")
            transaction.savepoint_rollback(self._savepoint)
        transaction.savepoint_commit(self._savepoint)
        self._savepoint = None

    def drop(self) -> None:
        """The transaction is over."""
        _connection.is_kept = False
        if _connection.held == self._save:
            _connection.held = None


class OpenTransactions:
    """The connection of a run that is not atomic: what its body, or a handler, left open must not take in its end."""

    def __init__(self) -> None:
        self._was_in_atomic_block = connection.in_atomic_block

    def leave(self) -> None:
        """The run's own code goes on."""
        is_open = _connection.in_atomic_block != self._was_in_atomic_block
        if is_open or (not self._was_in_atomic_block and not _connection.autocommit and _connection.connection):
            logger.error("a task, a handler or a hook left a transaction open: what it wrote is undone")
            _connection.forget_transaction()

    def enter(self) -> None:
        """Nothing to keep."""

    drop = enter


def prepare_connection() -> None:
    """Before each run: what broke in the last one is closed, and what is left is not asked whether it still works.

    The statement that claims asks for itself, as it is repeated, and what follows comes at once.
    """
    close_old_connections()
    _connection.health_check_done = True
    _connection.asked_at = time.monotonic()


def give_back() -> None:
    """Where connections are pooled, let another thread have this one."""
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close()


def own_connection() -> None:
    """Give this thread a connection outside the pool, so that no queue for the pool can hold it up."""
    own = connections[DEFAULT_DB_ALIAS].copy()
    own.settings_dict["OPTIONS"].pop("pool", None)
    connections[DEFAULT_DB_ALIAS] = own
