"""What a call, and a transaction, sends to Postgres. Each item of the lists is a message whose answer is waited for."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, InternalError, OperationalError, ProgrammingError, connection, transaction
from psycopg import IsolationLevel

from pressroom.enqueue import buffer
from pressroom.models import TaskRun, Tick
from pressroom.sql import calls, runs
from pressroom.sql.runs import DuplicateTaskIdError
from tests.support.probes import tasks

pytestmark = pytest.mark.django_db(transaction=True)


def messages(work: Callable[[], object]) -> list[str]:
    """Do the work. Returns the commands of each message that libpq sent meanwhile."""
    # Otherwise Django first asks whether the connection still works.
    ask()
    with tempfile.TemporaryFile("w+") as file:
        connection.connection.pgconn.trace(file.fileno())
        try:
            work()
        finally:
            connection.connection.pgconn.untrace()
        file.seek(0)
        # Each message begins with the time; the text of a query may have several lines.
        sent = re.split(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\t", file.read(), flags=re.MULTILINE)
    queries = (message.split('"', 1)[1] for message in sent if message.startswith("F\t") and '"' in message)
    return [" ".join(re.findall(r"\b(?:BEGIN|SAVEPOINT|SELECT 1|INSERT|taskruns_\w+|COMMIT|ROLLBACK)\b", query))
            for query in queries]  # fmt: skip


def call(count: int = 1) -> None:
    for number in range(count):
        tasks.effect.delay("nowhere", str(number))


def ask() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def in_transaction(*works: Callable[[], object]) -> Callable[[], None]:
    def together() -> None:
        with transaction.atomic():
            for work in works:
                work()

    return together


def message_of(celery_id: str) -> runs.Message:
    return runs.Message(celery_id, "probe.effect", "default", 0, "{}", "[[],{},{}]", "{}")


def test_a_call_is_one() -> None:
    assert messages(call) == ["taskruns_insert_one_2"]


def test_a_call_in_a_transaction_of_its_own_is_one() -> None:
    assert messages(in_transaction(call)) == ["BEGIN taskruns_insert_one_2 COMMIT"]
    assert TaskRun.objects.count() == 1


def test_a_call_adds_none_to_a_transaction() -> None:
    assert messages(in_transaction(ask)) == ["BEGIN SELECT 1", "COMMIT"]
    assert messages(in_transaction(ask, call)) == ["BEGIN SELECT 1", "taskruns_insert_one_2 COMMIT"]


def test_many_calls_add_one_to_a_transaction() -> None:
    assert messages(in_transaction(ask, lambda: call(5))) == ["BEGIN SELECT 1", "taskruns_insert_2", "COMMIT"]


def test_a_transaction_without_statements_is_none() -> None:
    assert messages(in_transaction(lambda: None)) == []


def test_each_kind_of_statement_is_in_the_transaction() -> None:
    def many() -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO taskruns_tick (name, at) VALUES (%s, now())", [("a",), ("b",)])

    def copy() -> None:
        with connection.cursor() as cursor, cursor.copy("COPY taskruns_tick (name, at) FROM STDIN") as into:
            into.write_row(["c", "2026-01-01T00:00Z"])

    def returning() -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO taskruns_tick (name, at) VALUES (%s, now()) RETURNING name", ["d"])
            assert (cursor.rowcount, cursor.fetchall()) == (1, [("d",)])

    def one_by_one() -> None:
        for name in "ef":
            with transaction.atomic():
                Tick.objects.create(name=name, at="2026-01-01T00:00Z")

    def fail() -> None:
        raise ZeroDivisionError

    for work in (many, copy, returning, one_by_one):
        with pytest.raises(ZeroDivisionError):
            in_transaction(work, fail)()
        assert not Tick.objects.exists(), work
    for work in (many, copy, returning, one_by_one):
        in_transaction(work)()
    assert sorted(Tick.objects.values_list("name", flat=True)) == list("abcdef")


@pytest.fixture
def serializable() -> Iterator[None]:
    connection.ensure_connection()
    connection.connection.isolation_level = IsolationLevel.SERIALIZABLE
    yield
    connection.close()


def test_the_isolation_level_stays(serializable: None) -> None:
    def ask_level() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("serializable",)

    in_transaction(ask_level)()


# ---- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["SELEC 1", "SELECT 1 FROM nowhere"])
def test_a_wrong_statement_breaks_its_transaction(wrong: str) -> None:
    def swallow() -> None:
        with connection.cursor() as cursor, pytest.raises(ProgrammingError):
            cursor.execute(wrong)

    with pytest.raises(InternalError, match="transaction is aborted"):
        in_transaction(swallow, ask)()
    ask()


def lose_connection() -> None:
    """Have the server end the connection, some time after its last statement."""
    session = connection.connection.info.backend_pid
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [session])
    other.close()
    connection.asked_at = float("-inf")


def test_a_connection_lost_before_the_commit_stores_no_call() -> None:
    with pytest.raises(OperationalError):
        in_transaction(ask, lose_connection, call)()
    assert not TaskRun.objects.exists()


@transaction.atomic
def write_and_store(message: runs.Message) -> None:
    Tick.objects.create(name="here", at="2026-01-01T00:00Z")
    buffer.store(message, hold=True)


def test_an_id_that_is_live_undoes_the_transaction() -> None:
    calls.insert([message_of("taken")])
    with pytest.raises(DuplicateTaskIdError):
        write_and_store(message_of("taken"))
    assert not Tick.objects.exists()
    assert TaskRun.objects.count() == 1


def test_a_constraint_that_the_commit_checks_undoes_the_call() -> None:
    def break_constraint() -> Any:
        return LogEntry.objects.create(user_id=-1, object_repr="a", action_flag=1)

    with pytest.raises(IntegrityError):
        in_transaction(break_constraint, call)()
    assert not LogEntry.objects.exists()
    assert not TaskRun.objects.exists()
    call()
    assert TaskRun.objects.count() == 1
