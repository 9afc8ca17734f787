"""Django's Postgres backend, which in a web process does not wait for a server that hangs, and can hold writes back.

One that was stopped, or whose disk is stuck, keeps its connections and acknowledges what it is sent: no time-out of
TCP, nor one that the server itself watches, ends the wait for its answer. The client's own does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import Error
from django.db.backends.postgresql import base

CONNECT = 1.5
"""Seconds of silence while a connection is made."""
LONGEST = 30
"""Seconds for a connection to a server that does answer, but slowly."""
LOOK = 0.1
"""Seconds after which a wait looks up from the socket: psycopg's own."""
ASK = 1.0
"""Seconds for an answer to ``SELECT 1``, which is what each request asks first."""
IDLE = 2.0
"""Seconds without a statement after which a connection is asked whether it still works, where that is Django's way."""
REST = 1.0
"""Seconds after a server did not answer in which it is not asked: its requests shall not wait one after the other."""

LIKE_OURS = {
    "tcp_keepalives_idle": "keepalives_idle", "tcp_keepalives_interval": "keepalives_interval",
    "tcp_keepalives_count": "keepalives_count", "tcp_user_timeout": "tcp_user_timeout",
}  # fmt: skip
"""The server's settings for a connection, and libpq's of the same meaning."""


class NoAnswerError(psycopg.OperationalError):
    """It was silent for too long; the connection is closed, for its answer may still come."""


def listening(gen: Generator[Any, Any, Any], limit: float) -> Generator[Any, Any, Any]:
    """The same generator of psycopg's, ended when nothing comes for ``limit`` seconds. Raises NoAnswerError.

    The looks in vain are counted, not the time: a process that gets no CPU itself hears the answer when it wakes, and
    does not take a living server for a dead one.
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
    """Waits ``limit`` seconds for each answer at most."""

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


# The stubs do not know its inside.
_DatabaseWrapper: Any = base.DatabaseWrapper


class DatabaseWrapper(_DatabaseWrapper):  # type: ignore[misc]  # see _DatabaseWrapper
    """Django's, which waits as long as Django's does until this process sets a ``limit``."""

    limit: float | None = None
    """Seconds for the answer to a statement, at most."""
    hung_at = float("-inf")
    """When the server did not answer, by the monotonic clock."""
    asked_at = float("-inf")
    """When it was asked something last, by the monotonic clock."""
    held: Callable[[], object] | None = None
    """Writes what was held back in the transaction that is open: before anything else is asked, and before its end."""
    is_kept = False
    """Whether the open transaction is not that of the code which runs now: its ``close()`` is then ignored."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self.limit is None:
            return super().get_new_connection(conn_params)
        if time.monotonic() - DatabaseWrapper.hung_at < REST:
            raise NoAnswerError("it did not answer a moment ago")
        with self._noting_what_hangs():
            connection = Connection.connect(**conn_params | {"connect_timeout": LONGEST, "autocommit": True})
            # Behind PgBouncer, to be connected says nothing of the server.
            self._ask(connection)
        return connection

    def is_usable(self) -> bool:
        """As Django asks before a request's first statement."""
        if not isinstance(self.connection, Connection):
            return bool(super().is_usable())
        try:
            with self._noting_what_hangs():
                self._ask(self.connection)
        except psycopg.Error:
            return False
        return True

    def write_held(self) -> None:
        """Write now what was held back."""
        if self.held is not None:
            held, self.held = self.held, None
            held()

    def _cursor(self, name: str | None = None) -> Any:
        self.write_held()
        now = time.monotonic()
        if now - self.asked_at > IDLE and not self.in_atomic_block:
            # As at the start of a request: it may have been cut off while the process did something else.
            self.health_check_done = False
        self.asked_at = now
        return super()._cursor(name)

    def _commit(self) -> None:
        try:
            self.write_held()
        except BaseException:
            # Django rolls back after errors of the database only.
            try:
                self.rollback()
            except Error:
                self.close()
            raise
        super()._commit()

    def _savepoint_rollback(self, sid: str) -> None:
        # Held back since that savepoint: to make one is to ask something.
        self.held = None
        super()._savepoint_rollback(sid)

    def _rollback(self) -> None:
        self.held = None
        super()._rollback()

    def close(self) -> None:
        """As Django's, but for a connection that is kept."""
        if self.is_kept:
            return
        self.held = None
        super().close()

    @property
    def is_broken(self) -> bool:
        """Whether the open transaction takes no more statements until it is rolled back to a savepoint."""
        if self.needs_rollback or self.connection is None:
            return True
        return bool(self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR)

    def forget_transaction(self) -> None:
        """Close the connection and forget the transaction that was left open on it: it is rolled back."""
        self.is_kept = False
        self.savepoint_ids.clear()
        self.atomic_blocks.clear()
        self.run_on_commit.clear()
        self.in_atomic_block = self.needs_rollback = self.closed_in_transaction = False
        self.close()

    def _configure_connection(self, connection: psycopg.Connection[Any]) -> Any:
        """As Django's; and have the server find out as well, and as soon, that the other end is gone.

        The transaction of a client that was cut off keeps its locks otherwise, and vacuum from its work: for two hours.
        """
        ours = self.settings_dict["OPTIONS"]
        # To compile a statement takes a second, and each time: this is no warehouse.
        wanted = {"jit": "off", **{theirs: str(ours.get(name, 0)) for theirs, name in LIKE_OURS.items()}}
        connection.execute(
            f"SELECT {', '.join(['set_config(%s, %s, false)'] * len(wanted))}",
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
