"""Database connections of a worker: one a process under prefork, a bounded pool for threads and greenlets."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connection, connections


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


def prepare_connection() -> None:
    """Before each run: what broke in the last one is closed, and what is left is not asked whether it still works.

    The statement that claims asks for itself, as it is repeated, and what follows comes at once.
    """
    close_old_connections()
    ours: Any = connection  # app.database's, which the stubs take for Django's
    ours.health_check_done = True
    ours.asked_at = time.monotonic()


def give_back() -> None:
    """Where connections are pooled, let another thread have this one."""
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close()


def own_connection() -> None:
    """Give this thread a connection outside the pool, so that no queue for the pool can hold it up."""
    own = connections[DEFAULT_DB_ALIAS].copy()
    own.settings_dict["OPTIONS"].pop("pool", None)
    connections[DEFAULT_DB_ALIAS] = own
