"""What an error says of the connection to Postgres, and what of the statement.

An error is the connection's only if the connection is gone or the server itself says that it cannot serve. Any other is
the item's whose statement it was: to repeat that for ever would hold up all that comes after it.
"""

from __future__ import annotations

import re

import psycopg
from django.db import InterfaceError

# The classes and states of https://www.postgresql.org/docs/current/errcodes-appendix.html; PgBouncer's own is 08P01.
SERVER_STATES = re.compile(r"08|57P")
PASSING_STATES = re.compile(r"25006|40|53|55P03|57014|58")
"""A server that only reads (just after a failover), deadlocks, what is short, locks waited for, a statement that was
cancelled, the server's disk: worth a few tries."""


def _psycopg_error(error: BaseException) -> psycopg.Error | None:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return cause if isinstance(cause, psycopg.Error) else None


def is_no_answer(error: BaseException) -> bool:
    """Whether Postgres has not answered, by an error of Django's or of psycopg's.

    The outcome of the statement is not known then: it is repeated on another connection, or asked for.

    Where psycopg has no state to tell, the connection was cut in the middle: what psycopg then makes of Postgres's last
    words is an operational error or an internal one ("received 2 results").
    """
    cause = _psycopg_error(error)
    if cause is None:
        return isinstance(error, InterfaceError)
    if cause.sqlstate is not None:
        return bool(SERVER_STATES.match(cause.sqlstate))
    return isinstance(cause, psycopg.OperationalError | psycopg.InternalError | psycopg.InterfaceError)


def is_passing(error: BaseException) -> bool:
    """Whether the same statement may well succeed when it is tried again: a few times, then it is the item's error."""
    cause = _psycopg_error(error)
    return cause is not None and bool(PASSING_STATES.match(cause.sqlstate or ""))
