"""BEGIN goes with the first statement of a transaction, and nobody but Postgres sees the difference."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.postgresql import base as django_base
from django.test.utils import CaptureQueriesContext
from psycopg import sql

from pressroom.database.base import Cursor
from pressroom.database.errors import is_no_answer
from pressroom.models import TaskRun, Tick
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = "INSERT INTO taskruns_tick (name, at) VALUES ('once', now())"
EMPTY = ["", " \n", "-- nothing", ";"]
STATEMENTS: dict[str, tuple[Any, Any]] = {
    "a query": ("SELECT 1 AS one", None),
    "its values": ("SELECT %s::text, '%%', %s::int", ["BEGIN; ", 5]),
    "no rows": ("SELECT 1 WHERE false", None),
    "a write": (INSERT, None),
    "a write that returns": (f"{INSERT} RETURNING name", None),
    "bytes": (b"SELECT 1", None),
    "composed": (sql.SQL("SELECT {}").format(sql.Literal("a")), None),
    **{f"nothing, as {text!r}": (text, None) for text in EMPTY},
    "a comment first": ("-- a\n/* b */ SELECT 1", None),
    "two": ("SELECT 1; SELECT 2", None),
    "a syntax error": ("SELEC 1", None),
    "a second syntax error": ("SELECT 1; SELEC 1", None),
    "an open quote": ("SELECT 'a", None),
    "an open comment": ("SELECT 1 /*", None),
    "an escape": (r"SELECT U&'\zzzz'", None),
    "what the grammar refuses": ("CREATE ASSERTION a CHECK (true)", None),
    "a type that the grammar refuses": ("SELECT 1::float(99)", None),
    "no table": ("SELECT 1 FROM nowhere", None),
    "no quotient": ("SELECT 1/0", None),
    "NUL": ("SELECT %s", ["\0"]),
    "half a character": ("SELECT '\ud800'", None),
    "too few values": ("SELECT %s, %s", [1]),
    "too many values": ("SELECT 1", [1]),
    "no value": ("SELECT %s", None),
    "a placeholder that is none": ("SELECT %q", [1]),
    "outside of transactions only": ("VACUUM", None),
    "BEGIN": ("BEGIN", None),
    "COMMIT": ("COMMIT", None),
    "ROLLBACK": ("ROLLBACK", None),
    "a savepoint": ("SAVEPOINT a", None),
    "no savepoint": ("ROLLBACK TO SAVEPOINT a", None),
    "a level": ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE", None),
    "a cursor": ("DECLARE a CURSOR FOR SELECT 1", None),
    "COPY": ("COPY (SELECT 1) TO STDOUT", None),
    "an error after its own commit": (f"{INSERT}; COMMIT; SELECT 1/0", None),
    # If it were sent twice, the second INSERT would violate a constraint.
    "a syntax error after its own commit": (f"{INSERT}; COMMIT; DO $$ BEGIN EXECUTE 'SELEC'; END $$", None),
    "the end of its session": ("SELECT pg_terminate_backend(pg_backend_pid())", None),
    "its cancellation": ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)", None),
}  # fmt: skip


def outcome(factory: Any, statement: Any, values: Any) -> list[Any]:
    """All that a caller can see of a statement that is the first one of a transaction, and of the one after it."""
    Tick.objects.all().delete()
    seen: list[Any] = []
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": factory}) as server:
        server.add_notice_handler(lambda notice: seen.append(notice.message_primary))
        cursor = server.cursor()
        for query, parameters in ((statement, values), ("SHOW transaction_isolation", None)):
            reached_postgres = True
            try:
                cursor.execute(query, parameters)
                for one in cursor.results():
                    # To a message without a statement Postgres has an answer of its own.
                    tag = None if query in EMPTY else one.statusmessage
                    seen += [one.rowcount, tag, one.description and one.description[0].name]
                    with suppress(psycopg.ProgrammingError):
                        seen.append(one.fetchall())
                cursor.set_result(0)
            except (psycopg.Error, UnicodeError) as error:
                reached_postgres = getattr(error, "sqlstate", None) is not None
                seen += [type(error), error.diag.message_primary if isinstance(error, psycopg.Error) else None]
            if reached_postgres:
                seen += [server.info.transaction_status, cursor._query and cursor._query.query]
            if server.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                # A COPY is left open.
                break
        server.close()
    return [*seen, Tick.objects.count()]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_first_statement_is_what_it_is_with_djangos_cursor(name: str) -> None:
    assert outcome(Cursor, *STATEMENTS[name]) == outcome(django_base.Cursor, *STATEMENTS[name])


def test_psycopg_has_what_the_cursor_overrides() -> None:
    """Another version of psycopg may not. Then look at `pressroom.database.base.Cursor` before you allow it."""
    connection.ensure_connection()
    for name in ("_start_query", "_check_results", "execute"):
        assert callable(getattr(psycopg.ClientCursor, name, None)), f"psycopg's cursor has no {name}"
    assert "_autocommit" in vars(connection.connection), "psycopg's connection has no _autocommit"
    with connection.cursor() as cursor:
        assert type(cursor.cursor) is Cursor
        cursor.execute("SELECT 1")
        assert cursor.cursor._query.query == b"SELECT 1", "psycopg's cursor does not keep its statement"


# ---- What Django shows -----------------------------------------------------------------------------------------------


def ask(statement: str = "SELECT 1") -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def call() -> None:
    tasks.effect.delay("nowhere", "a")


def in_transaction(*works: Callable[[], object]) -> None:
    with transaction.atomic():
        for work in works:
            work()


def test_the_log_of_queries_has_each_statement_alone(django_assert_num_queries: Any) -> None:
    with CaptureQueriesContext(connection) as captured:
        in_transaction(ask, ask)
    assert [query["sql"] for query in captured] == ["BEGIN", "SELECT 1", "SELECT 1", "COMMIT"]
    with django_assert_num_queries(4):
        in_transaction(ask, call)


def test_a_wrapper_gets_each_statement_alone() -> None:
    got: list[str] = []

    def wrapper(execute: Any, statement: str, *rest: Any) -> Any:
        got.append(statement)
        return execute(statement, *rest)

    with connection.execute_wrapper(wrapper):
        in_transaction(ask, lambda: ask("SELECT 2"))
    assert got == ["SELECT 1", "SELECT 2"]


# ---- Kinds of transactions -------------------------------------------------------------------------------------------


@pytest.fixture
def new_connection() -> Iterator[None]:
    connection.ensure_connection()
    yield
    connection.close()


@pytest.mark.parametrize(("name", "value"), [("read_only", True), ("deferrable", True)])
def test_other_properties_of_transactions_stay(new_connection: None, name: str, value: Any) -> None:
    setattr(connection.connection, name, value)
    with transaction.atomic():
        assert ask(f"SHOW transaction_{name}") == "on"


@pytest.fixture
def without_autocommit() -> Iterator[None]:
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


def test_a_transaction_without_a_block(without_autocommit: None) -> None:
    call()
    transaction.rollback()
    assert not TaskRun.objects.exists()
    call()
    transaction.commit()
    with transaction.atomic():
        call()
    transaction.rollback()
    assert TaskRun.objects.count() == 1


def test_a_block_in_a_transaction_without_one_stores_its_call_at_the_commit(without_autocommit: None) -> None:
    with transaction.atomic():
        call()
    transaction.commit()
    transaction.rollback()
    assert TaskRun.objects.count() == 1


def test_a_cursor_on_the_server() -> None:
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert [row[0] for row in cursor] == [1, 2, 3]
        call()
    assert TaskRun.objects.count() == 1


def test_a_transaction_in_a_pipeline(new_connection: None) -> None:
    with connection.connection.pipeline():
        in_transaction(ask, call)
    assert TaskRun.objects.count() == 1


@pytest.fixture
def bound() -> Iterator[None]:
    """Bind parameters on the server."""
    connection.close()
    before = connection.settings_dict
    connection.settings_dict = before | {"OPTIONS": before["OPTIONS"] | {"server_side_binding": True}}
    # Django keeps what it read of the settings.
    vars(connection.features).pop("uses_server_side_binding", None)
    yield
    connection.settings_dict = before
    vars(connection.features).pop("uses_server_side_binding", None)
    connection.close()


def test_with_server_side_binding(bound: None) -> None:
    in_transaction(call)
    in_transaction(ask, call)
    in_transaction(ask, call, call)
    with pytest.raises(ZeroDivisionError):
        in_transaction(ask, call, lambda: 1 // 0)
    call()
    assert TaskRun.objects.count() == 5


# ---- The end of a transaction ----------------------------------------------------------------------------------------


def test_a_hook_that_fails_undoes_nothing() -> None:
    with pytest.raises(ZeroDivisionError):
        in_transaction(call, lambda: transaction.on_commit(lambda: 1 // 0))
    assert TaskRun.objects.count() == 1
    assert connection.get_autocommit()


def end_session() -> None:
    """Have the server end the connection, as a failover does while nothing is sent."""
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [connection.connection.info.backend_pid])
    other.close()
    connection.asked_at = float("-inf")


def test_a_connection_lost_before_the_transaction_is_made_anew() -> None:
    for works in ((call,), (ask, call)):
        ask()
        end_session()
        in_transaction(*works)
    assert TaskRun.objects.count() == 2


@pytest.fixture
def commit_without_answer() -> Iterator[None]:
    """A relay to Postgres between the two, which ends both connections instead of passing the answer to a COMMIT on."""
    before = connection.settings_dict
    address = (before["HOST"] or "127.0.0.1", int(before["PORT"]))

    class Relay(socketserver.BaseRequestHandler):
        is_cut = False

        def handle(self) -> None:
            with socket.create_connection(address) as server:
                there = threading.Thread(target=self.copy, args=(self.request, server))
                there.start()
                self.copy(server, self.request)
                there.join()

        def copy(self, source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    if source is self.request:
                        self.is_cut |= b"COMMIT" in data
                    elif self.is_cut:
                        break
                    target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    connection.close()
    with Server(("127.0.0.1", 0), Relay) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        connection.settings_dict = before | {"HOST": "127.0.0.1", "PORT": relay.server_address[1]}
        yield
        connection.close()
        connection.settings_dict = before
        relay.shutdown()
        thread.join()


@pytest.mark.parametrize("count", [1, 2])
def test_a_commit_whose_answer_is_lost_is_an_error_of_unknown_outcome(commit_without_answer: None, count: int) -> None:
    called: list[int] = []
    with pytest.raises(OperationalError) as caught:
        in_transaction(ask, *[call] * count, lambda: transaction.on_commit(lambda: called.append(1)))
    assert is_no_answer(caught.value)
    assert not called
    assert connection.get_autocommit()
    assert TaskRun.objects.count() == count, "Postgres has committed it"


@pytest.fixture(params=["RAISE serialization_failure", "PERFORM pg_terminate_backend(pg_backend_pid())"])
def failing_commit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A trigger that Postgres calls at the commit of who wrote a Tick."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN {request.param}; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT ON taskruns_tick DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION fail_at_commit()
            """
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER fail_at_commit ON taskruns_tick; DROP FUNCTION fail_at_commit()")


def test_a_commit_that_fails_undoes_the_call_and_calls_no_hook(failing_commit: None) -> None:
    called: list[int] = []
    with pytest.raises(OperationalError):
        in_transaction(
            lambda: Tick.objects.create(name="here", at="2026-01-01T00:00Z"),
            lambda: transaction.on_commit(lambda: called.append(1)),
            call,
        )
    assert not TaskRun.objects.exists()
    assert not Tick.objects.exists()
    in_transaction(ask, call)
    assert TaskRun.objects.count() == 1
    assert not called
