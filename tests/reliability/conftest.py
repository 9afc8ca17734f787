"""A PostgreSQL that a test may stop, directly and through PgBouncer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import environ
import psutil
import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from psycopg import sql

from app.local.servers import Postgres, Service, data_folder
from tests.support.pgbouncer import PgBouncer
from tests.support.processes import Stack
from tests.support.waiting import until

ROLE = "app"


class Database:
    """The server, which everything under test uses as a role that is no superuser."""

    def __init__(self, server: Postgres) -> None:
        self.server = server

    def stop(self) -> None:
        self.server.stop()
        connection.close()

    def start(self) -> None:
        self.server.start()
        self.reconnect()

    def _processes(self) -> list[psutil.Process]:
        """Of the server: the first makes the others."""
        assert self.server.process is not None
        first = psutil.Process(self.server.process.pid)
        return [first, *first.children()]

    def freeze(self) -> None:
        """It keeps its connections and answers nothing any more, as when its disk is stuck."""
        self._processes()[0].suspend()  # makes no other from now on
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """It goes on where it was."""
        for process in self._processes():
            process.resume()

    def reconnect(self) -> None:
        """Until this process has a connection again."""

        def connected() -> bool:
            try:
                connection.close()
                connection.ensure_connection()
            except OperationalError:
                return False
            return True

        until(connected, "Postgres answers")

    def admin(self, statement: str, *values: Any) -> Any:
        """As the superuser, on a connection of its own. Returns the first column of the first row, if any."""
        with psycopg.connect(self.server.url, autocommit=True) as admin:
            cursor = admin.execute(sql.SQL(statement).format(role=sql.Identifier(ROLE)), values or None)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def cut(self) -> int:
        """End every session of the role but the test's own. Returns how many."""
        own = connection.connection.info.backend_pid if connection.connection else 0
        ended: int = self.admin(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s AND pid <> %s", ROLE, own
        )
        return ended


@pytest.fixture(scope="module", params=["directly", "by_pgbouncer"])
def database(
    request: Any, tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Database]:
    """With the schema, and Django's connection leading there."""
    folder = data_folder(tmp_path_factory.mktemp("database"))
    server = Postgres(folder)
    server.start()
    role = f"postgres://{ROLE}:{server.password}@127.0.0.1:{server.port}/pressroom"
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), server.password))
        admin.execute(sql.SQL("ALTER DATABASE pressroom OWNER TO {}").format(sql.Identifier(ROLE)))
    way: Service
    if request.param == "directly":
        way, way_url = server, role
    else:
        way = PgBouncer(folder, role)
        way.start()
        way_url = way.url
    ours = connection.settings_dict
    saved = dict(ours)
    with django_db_blocker.unblock():
        connection.close()
        ours.update({name: value for name, value in environ.Env.db_url_config(way_url).items() if name in saved})
        call_command("migrate", verbosity=0)
        yield Database(server)
        connection.close()
    ours.update(saved)
    if way is not server:
        way.stop()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def faults(database: Database, stack: Stack) -> Iterator[Database]:
    """What a test did to the database is undone after it, before its tables are emptied."""
    yield database
    if database.server.running:
        database.thaw()
    else:
        database.start()
    database.admin("ALTER ROLE {role} CONNECTION LIMIT -1")
    database.reconnect()
