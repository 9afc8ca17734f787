"""``manage.py migrate``: Django's command for a Job that starts with its database or while others use the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.migrate import Command as DjangoCommand
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import DeadlockDetected, LockNotAvailable

PAUSE = 1.0
"""Seconds between two tries."""
SET_LIMIT = "SELECT set_config('lock_timeout', %s, false)"


def _let_concurrent_wait(
    limit: str, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Execute a statement, without the time-out (ms) if it says CONCURRENTLY.

    While that waits for older transactions, nobody waits behind it. If it gave way, its migration, which has no
    transaction, would leave half of itself and an invalid index behind, and could not be tried again.
    """
    if "CONCURRENTLY" not in str(sql):
        return execute(sql, params, many, context)
    cursor = context["cursor"].cursor
    cursor.execute(SET_LIMIT, ["0"])
    try:
        return execute(sql, params, many, context)
    finally:
        cursor.execute(SET_LIMIT, [limit])


@contextmanager
def _lock_timeout(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Limit how long a statement waits for a lock. With 0, or without Postgres, the database's own limit applies."""
    if not seconds or connection.vendor != "postgresql":
        yield
        return
    limit = f"{seconds * 1000:.0f}"
    with connection.cursor() as cursor:
        cursor.execute(SET_LIMIT, [limit])
    with connection.execute_wrapper(partial(_let_concurrent_wait, limit)):
        yield


class Command(DjangoCommand):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for the database to come up"
        )
        parser.add_argument(
            "--lock-timeout", type=float, default=0.0, metavar="SECONDS",
            help="how long a migration may wait for a lock, during which it blocks later queries; it then gives way "
            "and tries again, for as long as --wait allows",
        )  # fmt: skip

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """Wait for the database first, because the checks of the models ask it for its version."""
        self._wait_for_database(options["database"], time.monotonic() + options["wait"])
        return super().get_check_kwargs(options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the migrations. Raises CommandError if a table stays locked for longer than ``--wait``."""
        deadline = time.monotonic() + options["wait"]
        self._wait_for_database(options["database"], deadline)
        connection = connections[options["database"]]
        while True:
            try:
                with _lock_timeout(connection, options["lock_timeout"]):
                    super().handle(*args, **options)
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
                    raise
                if time.monotonic() > deadline:
                    raise CommandError(
                        "a table stayed locked: pg_stat_activity shows which session holds it"
                    ) from error
                self.stderr.write("a table is locked: trying again")
                time.sleep(PAUSE)
            else:
                return

    def _wait_for_database(self, alias: str, deadline: float) -> None:
        while True:
            try:
                connections[alias].ensure_connection()
            except DatabaseError as error:
                if time.monotonic() > deadline:
                    raise
                self.stderr.write(f"waiting for the database: {str(error).strip().splitlines()[0]}")
                time.sleep(PAUSE)
            else:
                return
