"""The statements that store calls: one, one with the COMMIT, many, or one that is unique."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, connection
from psycopg.errors import UniqueViolation

from pressroom.database.connections import rows_of
from pressroom.sql.runs import DuplicateTaskIdError, Message
from pressroom.uuid7 import uuid7

_CALL = "SELECT taskruns_insert_one_2(%s, %s, %s, %s, %s::smallint, %s, %s, %s, %s, %s, %s, %s, %s, "
_INSERT_ONE = f"{_CALL}false)"
_INSERT_ONE_ALONE = f"{_CALL}true)"
# One message for both statements. If the first fails, Postgres does not come to the COMMIT.
_INSERT_ONE_AND_COMMIT = f"{_INSERT_ONE_ALONE}; COMMIT"
_INSERT_MANY = """
    SELECT * FROM taskruns_insert_2(
        %s::uuid[], %s::text[], %s::text[], %s::text[], %s::smallint[],
        %s::bigint[], string_to_array(%s, chr(31)), string_to_array(%s, chr(31)), string_to_array(%s, chr(31)),
        %s::timestamptz[], %s::float8[], %s::timestamptz[], %s::float8[], %s::text[])
    """
# psycopg escapes each text of a list, which for 500 JSON texts takes milliseconds. The three JSON columns are therefore
# passed as one text each, joined by a character that JSON text cannot contain.
_JSON_COLUMNS = slice(6, 9)
_SEPARATOR = "\x1f"


def insert(messages: Sequence[Message]) -> list[uuid.UUID]:
    """Store calls as queued runs and return their keys.

    Raises DuplicateTaskIdError if a live run already has one of the ids. The other calls of the batch stay stored.
    """
    if len(messages) == 1 and messages[0].lane is None and connection.get_autocommit():
        return [_insert_alone(_INSERT_ONE_ALONE, messages[0])]
    ids = [uuid7() for _ in messages]
    rows = [_as_parameters(run_id, message) for run_id, message in zip(ids, messages, strict=True)]
    lanes = [message.lane for message in messages]
    has_limit = any(lane is not None for lane in lanes)
    if len(rows) == 1 and not has_limit:
        stored = set(ids) if rows_of(_INSERT_ONE, *rows[0])[0][0] else set()
    else:
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
        columns[_JSON_COLUMNS] = [_SEPARATOR.join(column) for column in columns[_JSON_COLUMNS]]
        stored = {row[0] for row in rows_of(_INSERT_MANY, *columns, lanes if has_limit else None)}
    refused = [m.celery_id for run_id, m in zip(ids, messages, strict=True) if run_id not in stored]
    if refused:
        raise DuplicateTaskIdError(f"a live run already has the task id: {', '.join(refused)}")
    return ids


def insert_and_commit(message: Message) -> None:
    """Store one call without a limit and commit the open transaction in the same round trip.

    Only for a message of several statements.

    Raises DuplicateTaskIdError, and commits nothing, if a live run already has the id.
    """
    _insert_alone(_INSERT_ONE_AND_COMMIT, message)


def _insert_alone(statement: str, message: Message) -> uuid.UUID:
    """Store one call by a statement that fails if a live run has the id, and leaves no transaction open."""
    run_id = uuid7()
    try:
        rows_of(statement, *_as_parameters(run_id, message))
    except IntegrityError as error:
        cause = error.__cause__
        # COMMIT also checks the deferred constraints of what the caller wrote.
        if isinstance(cause, UniqueViolation) and cause.diag.constraint_name == "liverun_celery_id":
            raise DuplicateTaskIdError(f"a live run already has the task id: {message.celery_id}") from error
        raise
    return run_id


_INSERT_UNIQUE = f"SELECT taskruns_insert_unique_1({', '.join(['%s'] * 4)}, %s::smallint, {', '.join(['%s'] * 11)})"


def insert_unique(message: Message, key: str, seconds: float | None) -> str:
    """Store a call unless another one has its ``key``: a live run, or, with ``seconds``, a call of that time.

    Returns the Celery id of the call that has the key, which is this one or the first. Raises DuplicateTaskIdError if a
    live run has this call's id.
    """
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_UNIQUE, [*_as_parameters(uuid7(), message), key, seconds, message.lane])
        row = cursor.fetchone()
    if row is None or row[0] is None:
        raise DuplicateTaskIdError(f"a live run already has the task id: {message.celery_id}")
    return str(row[0])


def _as_parameters(run_id: uuid.UUID, m: Message) -> tuple[Any, ...]:
    return (
        run_id, m.celery_id, m.name, m.queue, m.priority, m.owner_id, m.headers, m.body, m.properties, m.eta,
        float(m.countdown or 0), m.expires, None if m.expires_in is None else float(m.expires_in),
    )  # fmt: skip
