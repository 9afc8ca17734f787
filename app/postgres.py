"""What an error says of the connection to Postgres."""

from __future__ import annotations

import re

import psycopg
from django.db import InterfaceError, OperationalError

# The classes and states of https://www.postgresql.org/docs/current/errcodes-appendix.html; PgBouncer's own is 08P01.
CONNECTION_STATES = re.compile(r"08|57P0[123]")


def is_cut(error: BaseException) -> bool:
    """Whether the connection failed, not the statement, by a database error of Django's: another one may do.

    Where psycopg has no state to tell, it was cut in the middle: what it then makes of Postgres's last words is an
    operational error or an internal one ("received 2 results").
    """
    cause = error.__cause__
    if not isinstance(cause, psycopg.OperationalError | psycopg.InternalError):
        return False
    return cause.sqlstate is None or bool(CONNECTION_STATES.match(cause.sqlstate))


def is_no_answer(error: BaseException) -> bool:
    """Whether Postgres has not answered: the outcome of a statement is not known, and it is repeated or asked for."""
    return isinstance(error, OperationalError | InterfaceError) or is_cut(error)
