"""Django's Postgres backend, with a time limit for every answer in web processes, and with writes that are held back.

A server that was stopped, or whose disk hangs, keeps its connections open and acknowledges what it receives. Neither
TCP's time-outs nor the server's own end the wait for its answer. Only a time limit of the client does.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import Error
from django.db.backends.postgresql import base
from django.utils.asyncio import async_unsafe

CONNECT = 1.5
"""Seconds of silence while a connection is made."""
LONGEST = 30
"""Seconds for a connection to a server that answers, but slowly."""
LOOK = 0.1
"""Seconds for which psycopg waits for the socket before its generator looks up: psycopg's own default."""
ASK = 1.0
"""Seconds for an answer to ``SELECT 1``, the first statement of each request."""
IDLE = 2.0
"""Seconds without a statement after which a connection is checked again, if Django checks connections at all."""
REST = 1.0
"""Seconds for which no new connection is tried after a server did not answer: requests must not wait one by one."""

LIKE_OURS = {
    "tcp_keepalives_idle": "keepalives_idle", "tcp_keepalives_interval": "keepalives_interval",
    "tcp_keepalives_count": "keepalives_count", "tcp_user_timeout": "tcp_user_timeout",
}  # fmt: skip
"""The server's settings of a connection, and libpq's settings with the same meaning."""


class NoAnswerError(psycopg.OperationalError):
    """The server was silent for too long. The connection is closed, because the answer may still arrive."""


def listening(gen: Generator[Any, Any, Any], limit: float) -> Generator[Any, Any, Any]:
    """Wrap a generator of psycopg's. Raises NoAnswerError if nothing arrives for ``limit`` seconds.

    This counts the waits without an answer, not the time. A process that got no CPU itself receives the answer when it
    wakes, and does not take a living server for a dead one.
    """
    in_vain, ready = 0, None
    try:
        while True:
            ready = yield gen.send(ready)
            in_vain = 0 if ready else in_vain + 1
            if in_vain * LOOK >= limit:
                raise NoAnswerError(f"no answer within {limit:g} s")
    except StopIteration as end:
        return end.value


class Connection(psycopg.Connection[Any]):
    """A connection that waits at most ``limit`` seconds for each answer."""

    limit: float

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Any:
        return listening(super()._connect_gen(conninfo), CONNECT)

    def wait(self, gen: Any, interval: float = LOOK, timeout: float | None = None) -> Any:
        """As psycopg's. Raises NoAnswerError."""
        try:
            return super().wait(listening(gen, self.limit), interval, timeout)
        except NoAnswerError:
            self.pgconn.finish()
            raise


# The stubs do not have it.
_Cursor: Any = base.Cursor
BEGIN = "BEGIN; "


def takes_several(connection: psycopg.Connection[Any]) -> bool:
    """Return whether a message may hold several statements. Those of server-side binding and pipelines hold one."""
    return (
        issubclass(connection.cursor_factory, psycopg.ClientCursor)
        and connection.pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF
    )


class Cursor(_Cursor):  # type: ignore[misc]  # see _Cursor
    """Django's cursor. The first statement of a transaction takes BEGIN along, which saves a round trip.

    It overrides private methods of psycopg's. The project therefore allows psycopg 3.3 only.
    """

    _begins = False
    _begin_failed = False

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """As psycopg's."""
        if not self._may_begin(query):
            return super().execute(query, params, **options)
        self._begins, self._begin_failed = True, False
        try:
            return super().execute(f"{BEGIN}{query}", params, **options)
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.QueryCanceled) or not (self._begin_failed and self._is_idle()):
                raise
        finally:
            self._begins = False
            if self._query is not None:
                # Django's log of queries reads it.
                self._query.query = self._query.query.removeprefix(BEGIN.encode())
        # Postgres could not read the statement. The error has to happen in a transaction, because it breaks that.
        return super().execute(query, params, **options)

    def _may_begin(self, query: Any) -> bool:
        connection = self.connection
        return (
            not connection.autocommit
            and self._is_idle()
            and isinstance(query, str)
            and connection.isolation_level is connection.read_only is connection.deferrable is None
            and takes_several(connection)
        )

    def _is_idle(self) -> bool:
        return bool(self.connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE)

    def _start_query(self, query: Any = None) -> Generator[Any, Any, None]:
        # Called for each statement. In autocommit psycopg sends no BEGIN of its own.
        connection = self.connection
        was, connection._autocommit = connection._autocommit, connection._autocommit or self._begins
        try:
            yield from super()._start_query(query)
        finally:
            connection._autocommit = was

    def _check_results(self, results: list[Any]) -> None:
        # Called with all answers to a message.
        if self._begins and results:
            # Postgres reads a message to its end before it does anything. If it cannot, it does not come to BEGIN.
            self._begin_failed = results[0].status == psycopg.pq.ExecStatus.FATAL_ERROR
            if len(results) > 1:
                # The answer to BEGIN. It is the only one if the statement is empty.
                del results[0]
        super()._check_results(results)


# The stubs do not have its private members.
_DatabaseWrapper: Any = base.DatabaseWrapper


class DatabaseWrapper(_DatabaseWrapper):  # type: ignore[misc]  # see _DatabaseWrapper
    """Django's Postgres wrapper. Without a ``limit`` it waits for answers as long as Django's does."""

    limit: float | None = None
    """Seconds to wait for the answer to a statement."""
    hung_at = float("-inf")
    """When the server last did not answer, by the monotonic clock."""
    away_since: datetime.datetime | None = None
    """Since when no connection could be made in this process. None if the last try succeeded."""
    asked_at = float("-inf")
    """When the last statement was sent, by the monotonic clock."""
    held: Callable[[bool], object] | None = None
    """Writes what the open transaction holds back. Called before the next statement and before the commit.

    With True it may commit the transaction itself, in the same round trip.
    """
    is_kept = False
    """True while code runs that does not own the open transaction. ``close()`` then does nothing."""
    _reused: Any = None
    """The cursor of `rows`."""

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if params["cursor_factory"] is base.Cursor:
            params["cursor_factory"] = Cursor
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        try:
            connection = self._connect(conn_params)
        except psycopg.Error:
            DatabaseWrapper.away_since = DatabaseWrapper.away_since or datetime.datetime.now(datetime.UTC)
            raise
        DatabaseWrapper.away_since = None
        return connection

    def _connect(self, conn_params: dict[str, Any]) -> Any:
        if self.limit is None:
            return super().get_new_connection(conn_params)
        if time.monotonic() - DatabaseWrapper.hung_at < REST:
            raise NoAnswerError("the server did not answer a moment ago")
        with self._noting_what_hangs():
            connection = Connection.connect(**conn_params | {"connect_timeout": LONGEST, "autocommit": True})
            # A connection to PgBouncer does not show that the server answers.
            self._ask(connection)
        return connection

    def is_usable(self) -> bool:
        """Return whether the connection works. Django calls this before a request's first statement."""
        if not isinstance(self.connection, Connection):
            return bool(super().is_usable())
        try:
            with self._noting_what_hangs():
                self._ask(self.connection)
        except psycopg.Error:
            return False
        return True

    def write_held(self, and_commit: bool = False) -> None:
        """Write what is held back."""
        if self.held is not None:
            held, self.held = self.held, None
            held(and_commit)

    def _cursor(self, name: str | None = None) -> Any:
        self.write_held()
        self._note_statement()
        return super()._cursor(name)

    @async_unsafe
    def rows(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows, as a new cursor would.

        To make a cursor costs 20 of the 60 microseconds of CPU that a statement costs here. This uses one again.
        """
        self.write_held()
        self._note_statement()
        self.close_if_health_check_failed()
        self.ensure_connection()
        with self.wrap_database_errors:
            if self._reused is None or self._reused.connection is not self.connection:
                self._reused = self.create_cursor()
            cursor = self._prepare_cursor(self._reused)
        cursor.execute(statement, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def set_autocommit(self, autocommit: bool, *arguments: Any, **options: Any) -> None:
        """As Django's."""
        if not autocommit:
            # A transaction begins. After that, it is too late for another connection.
            self._note_statement()
        super().set_autocommit(autocommit, *arguments, **options)

    def _note_statement(self) -> None:
        now = time.monotonic()
        if now - self.asked_at > IDLE and self.autocommit:
            # Have Django check the connection as at the start of a request: it may have been closed meanwhile. Not in a
            # transaction, of which nothing would be left on a new connection, nor at its commit.
            self.health_check_done = False
        self.asked_at = now

    def _commit(self) -> None:
        try:
            self.write_held(and_commit=self.connection is not None and takes_several(self.connection))
        except BaseException:
            # Django itself rolls back only after errors of the database.
            try:
                self.rollback()
            except Error:
                self.close()
            raise
        # Does nothing if the transaction is committed by now.
        super()._commit()

    def _savepoint_rollback(self, sid: str) -> None:
        # The savepoint was a statement, so everything that is held back came after it.
        self.held = None
        super()._savepoint_rollback(sid)

    def _rollback(self) -> None:
        self.held = None
        super()._rollback()

    def close(self) -> None:
        """As Django's, but do nothing while ``is_kept``."""
        if self.is_kept:
            return
        self.held = None
        super().close()

    @property
    def is_broken(self) -> bool:
        """Whether the open transaction refuses statements until it is rolled back to a savepoint."""
        if self.needs_rollback or self.connection is None:
            return True
        return bool(self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR)

    def forget_transaction(self) -> None:
        """Close the connection and clear Django's state of its open transaction, which Postgres rolls back."""
        self.is_kept = False
        self.savepoint_ids.clear()
        self.atomic_blocks.clear()
        self.run_on_commit.clear()
        self.in_atomic_block = self.needs_rollback = self.closed_in_transaction = False
        self.close()

    def _configure_connection(self, connection: psycopg.Connection[Any]) -> Any:
        """As Django's, and give the server the same time-outs, so that it notices a lost client as soon as we would.

        Otherwise the transaction of a lost client keeps its locks and blocks vacuum for two hours.
        """
        ours = self.settings_dict["OPTIONS"]
        # JIT would compile each statement anew, which takes a second. No statement here is long enough to repay that.
        wanted = {"jit": "off", **{theirs: str(ours.get(name, 0)) for theirs, name in LIKE_OURS.items()}}
        connection.execute(
            f"SELECT {', '.join('set_config(%s, %s, false)' for _ in wanted)}",
            [part for setting in wanted.items() for part in setting],
        )
        return super()._configure_connection(connection)

    def _ask(self, connection: Connection) -> None:
        assert self.limit is not None
        connection.limit = ASK
        connection.execute("SELECT 1")
        connection.limit = self.limit

    @contextmanager
    def _noting_what_hangs(self) -> Iterator[None]:
        try:
            yield
        except (NoAnswerError, psycopg.errors.ConnectionTimeout):
            DatabaseWrapper.hung_at = time.monotonic()
            raise
