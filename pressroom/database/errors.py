"""Tells errors of the connection to Postgres from errors of a statement.

An error belongs to the connection only if the connection is gone or the server itself says that it cannot serve. Every
other error belongs to the item whose statement failed: repeating it for ever would block the items behind it.
"""

from __future__ import annotations

import re

import psycopg
from django.db import InterfaceError

# The classes and states of https://www.postgresql.org/docs/current/errcodes-appendix.html; PgBouncer's own is 08P01.
SERVER_STATES = re.compile(r"08|57P")
PASSING_STATES = re.compile(r"25006|40|53|55P03|57014|58")
"""States worth a few more tries: a server that is read-only (just after a failover), deadlocks, a lack of resources,
a lock that was not available, a cancelled statement, errors of the server's disk."""


def _psycopg_error(error: BaseException) -> psycopg.Error | None:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return cause if isinstance(cause, psycopg.Error) else None


def is_no_answer(error: BaseException) -> bool:
    """Return whether an error of Django's or psycopg's means that Postgres did not answer.

    The outcome of the statement is then unknown: the caller repeats it on another connection, or queries the outcome.

    An error of psycopg's without an SQLSTATE means that the connection broke during an answer. psycopg reports this as
    an operational error or an internal one ("received 2 results").
    """
    cause = _psycopg_error(error)
    if cause is None:
        return isinstance(error, InterfaceError)
    if cause.sqlstate is not None:
        return bool(SERVER_STATES.match(cause.sqlstate))
    return isinstance(cause, psycopg.OperationalError | psycopg.InternalError | psycopg.InterfaceError)


def is_passing(error: BaseException) -> bool:
    """Return whether the same statement may succeed if it is repeated. After a few tries it is the item's error."""
    cause = _psycopg_error(error)
    return cause is not None and bool(PASSING_STATES.match(cause.sqlstate or ""))
