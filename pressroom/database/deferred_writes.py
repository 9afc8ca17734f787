"""Writes of a worker's main process, which must not wait for Postgres: a write that fails is repeated later."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connection, transaction

from pressroom.database.errors import is_no_answer, is_passing

logger = logging.getLogger(__name__)

_unwritten: deque[Callable[[], object]] = deque()


def write_now_or_later(write: Callable[[], object]) -> None:
    """Write from the main process. If Postgres does not answer, the heartbeat repeats the write when it does again."""
    try:
        write_now(write)
    except (DatabaseError, InterfaceError) as error:
        logger.exception("a write to the ledger failed")
        if is_no_answer(error) or is_passing(error):
            _unwritten.append(write)
    finally:
        connection.close()


def write_now(write: Callable[[], object]) -> None:
    """Write in a transaction that waits at most a second for locks: a child that holds one may be waiting for us."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
        write()


def write_rest() -> None:
    """Repeat the writes that failed. A write that Postgres refuses for good is logged and dropped."""
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
                logger.exception("Postgres refused a write to the ledger, which is dropped")
