"""A server that hangs is not waited for, where a limit is set; a host that is gone is found out everywhere."""

from __future__ import annotations

import asyncio
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DataError, OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from pressroom.database.base import CONNECT, IDLE, REST, DatabaseWrapper
from pressroom.database.errors import is_no_answer
from tests.support.waiting import until

SLEEP = "SELECT pg_sleep(3)"
SLEEPING = "FROM pg_stat_activity WHERE query = %s AND datname = current_database()"
"""Other processes run the same tests at the same server, each in a database of its own."""


def sleepers(connection: DatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {SLEEPING} AND state = 'active'", [SLEEP])
        return int(cursor.fetchone()[0])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, db: None) -> Iterator[DatabaseWrapper]:
    """A connection as a web process has it, with half a second for a statement."""
    monkeypatch.setattr(DatabaseWrapper, "limit", 0.5)
    monkeypatch.setattr(DatabaseWrapper, "hung_at", float("-inf"))
    own = connections["default"].copy()
    yield own
    own.close()
    own.settings_dict = connections["default"].settings_dict
    monkeypatch.undo()
    with own.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {SLEEPING}", [SLEEP])
    until(lambda: not sleepers(own), "nobody is left in the database")
    own.close()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def slow(db: None) -> Iterator[int]:
    """The port of a relay to Postgres that holds back each answer for 0.6 s, as a server without CPU does."""
    real = connections["default"].settings_dict
    address = (real["HOST"] or "127.0.0.1", int(real["PORT"]))

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(address) as server:
                there = threading.Thread(target=self.copy, args=(self.request, server, 0.0))
                there.start()
                self.copy(server, self.request, 0.6)
                there.join()

        def copy(self, source: socket.socket, target: socket.socket, pause: float) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    time.sleep(pause)
                    target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True  # a connection that is still open holds up nobody

    with Server(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_one_that_is_slow_but_answers_is_not_given_up(impatient: DatabaseWrapper, slow: int) -> None:
    impatient.limit = 2.0
    impatient.settings_dict = impatient.settings_dict | {"HOST": "127.0.0.1", "PORT": slow}
    began = time.monotonic()
    impatient.ensure_connection()
    assert time.monotonic() - began > CONNECT, "each of its answers comes in time, all of them together do not"
    impatient.close()


def test_a_statement_has_its_limit(impatient: DatabaseWrapper) -> None:
    with pytest.raises(OperationalError, match=r"within 0\.5 s") as caught, impatient.cursor() as cursor:
        cursor.execute(SLEEP)
    assert is_no_answer(caught.value)
    assert not impatient.is_usable()
    impatient.close()
    with impatient.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_in_a_transaction_too(impatient: DatabaseWrapper) -> None:
    connections["impatient"] = impatient
    try:
        with pytest.raises(OperationalError), transaction.atomic(using="impatient"), impatient.cursor() as cursor:
            cursor.execute(SLEEP)
    finally:
        del connections["impatient"]
    with impatient.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_one_that_says_nothing_is_left_alone_for_a_while(
    impatient: DatabaseWrapper, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient.settings_dict = impatient.settings_dict | {"PORT": silent}
    with pytest.raises(OperationalError, match="no answer"):
        impatient.ensure_connection()
    with pytest.raises(OperationalError, match="a moment ago"):
        impatient.ensure_connection()
    monkeypatch.setattr(DatabaseWrapper, "hung_at", time.monotonic() - REST)
    began = time.monotonic()
    with pytest.raises(OperationalError, match="no answer"):
        impatient.ensure_connection()
    assert time.monotonic() - began >= CONNECT


def test_a_host_that_is_gone_is_found_out(db: None) -> None:
    connection = connections["default"]
    connection.ensure_connection()
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as peer:
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


@pytest.mark.parametrize("options", [{}, {"pool": {"min_size": 0, "max_size": 1}}], ids=["own", "pooled"])
def test_the_server_finds_out_that_we_are_gone_as_soon(options: dict[str, Any], db: None) -> None:
    connection: Any = connections["default"].copy()
    connection.settings_dict["OPTIONS"] |= options
    connection.settings_dict["CONN_MAX_AGE"] = 0  # a pool wants it so
    connection.limit = None  # of a web process, which has no pool: another test may have made one of this
    try:
        with connection.cursor() as cursor:
            names = (
                "tcp_user_timeout",
                "tcp_keepalives_idle",
                "tcp_keepalives_interval",
                "tcp_keepalives_count",
                "jit",
            )
            cursor.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
            assert cursor.fetchone() == ("10000", "10", "5", "2", "off")
    finally:
        connection.close()
        connection.close_pool()


def test_a_connection_that_was_cut_off_meanwhile_is_made_anew(transactional_db: None) -> None:
    """By who asked something, and did something else for a while."""
    own = connections["default"].copy()
    try:
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        for idle, is_made_anew in ((0.0, False), (IDLE, True)):
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [pid])
            own.asked_at -= idle
            with nullcontext() if is_made_anew else pytest.raises(OperationalError), own.cursor() as cursor:
                cursor.execute("SELECT 1")
            own.close()
            with own.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                [pid] = cursor.fetchone()
    finally:
        own.close()


# ---- Statements of every task ----------------------------------------------------------------------------------------


def test_frequent_statements_use_one_cursor_for_as_long_as_the_connection_lives(db: None) -> None:
    own = connections["default"].copy()
    made = []
    own.create_cursor = lambda name=None: made.append(DatabaseWrapper.create_cursor(own, name)) or made[-1]
    try:
        assert own.rows("SELECT %s::int, %s", [1, "a"]) == [(1, "a")]
        with pytest.raises(DataError):
            own.rows("SELECT 1 / %s::int", [0])
        assert own.rows("SELECT generate_series(1, 2)", []) == [(1,), (2,)]
        assert own.rows("SELECT 1 WHERE false", []) == []
        assert len(made) == 1
        own.close()
        assert own.rows("SELECT 2", []) == [(2,)]
        assert len(made) == 2
    finally:
        own.close()


def test_a_frequent_statement_is_one_like_any_other(db: None) -> None:
    """It is logged, comes after what is held back, and is refused where Django refuses statements."""
    own: Any = connections["default"]
    wrote = []

    def held(and_commit: bool) -> None:
        wrote.append(own.rows("SELECT 'held'", []))

    own.held = held
    with CaptureQueriesContext(own) as queries:
        assert own.rows("SELECT 'asked'", []) == [("asked",)]
    assert wrote == [[("held",)]]
    assert [query["sql"] for query in queries] == ["SELECT 'held'", "SELECT 'asked'"]

    async def ask() -> None:
        own.rows("SELECT 1", [])

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(ask())
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            own.rows("SELECT 1", [])
