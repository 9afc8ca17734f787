"""Writes of a worker's main process, which must not wait for Postgres: what fails now is written later."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connection, transaction

from pressroom.database.errors import is_no_answer, is_passing

logger = logging.getLogger(__name__)

_unwritten: deque[Callable[[], object]] = deque()


def write_now_or_later(write: Callable[[], object]) -> None:
    """For the main process, which must not wait for Postgres: the heartbeat writes it when Postgres answers again."""
    try:
        write_now(write)
    except (DatabaseError, InterfaceError) as error:
        logger.exception("it could not be written")
        if is_no_answer(error) or is_passing(error):
            _unwritten.append(write)
    finally:
        connection.close()


def write_now(write: Callable[[], object]) -> None:
    """In a transaction that waits for no lock of a child, which may be waiting for us."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
        write()


def write_rest() -> None:
    """What could not be written before; what Postgres refuses for good is given up."""
    for _ in range(len(_unwritten)):
        write = _unwritten.popleft()
        try:
            write_now(write)
        except Exception as error:
            if is_no_answer(error):
                _unwritten.appendleft(write)
                raise
            if is_passing(error):
                _unwritten.append(write)
            else:
                logger.exception("it cannot be written")
