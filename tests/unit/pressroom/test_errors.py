"""Which errors of a database say that the connection failed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import DatabaseError, connection, connections, transaction

from pressroom.database.errors import is_no_answer


@pytest.fixture
def other(transactional_db: None) -> Iterator[psycopg.Connection]:
    """A connection of one's own to the tests' database, which loses what it locked at the end."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        yield other
        other.rollback()


def error_of(statement: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    return caught.value


def test_a_session_that_was_ended(other: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        other.execute("SELECT pg_terminate_backend(%s, 10000)", cursor.fetchone())
    assert is_no_answer(error_of("SELECT 1"))
    connection.close()


def test_nobody_listens(other: psycopg.Connection) -> None:
    nowhere = connections["default"].copy()
    nowhere.settings_dict = nowhere.settings_dict | {"PORT": 1}
    with pytest.raises(DatabaseError) as caught:
        nowhere.ensure_connection()
    assert is_no_answer(caught.value)


def test_last_words_in_the_middle_of_an_answer() -> None:
    """As psycopg 3.3 raises it, now and then, behind PgBouncer."""
    with pytest.raises(DatabaseError) as caught, connection.wrap_database_errors:
        raise psycopg.InternalError("received 2 results from command 'BEGIN'")
    assert is_no_answer(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL statement_timeout = 10; SELECT pg_sleep(60)",
        "SET LOCAL lock_timeout = 10; LOCK TABLE accounts_user",
        "SET TRANSACTION READ ONLY; CREATE TABLE x ()",
        "SELECT no_such_column",
        "SELECT 1/0",
    ],
)
def test_what_is_wrong_with_the_statement(other: psycopg.Connection, statement: str) -> None:
    other.execute("LOCK TABLE accounts_user")
    assert not is_no_answer(error_of(statement))
