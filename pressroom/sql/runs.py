"""The statements of the ledger: every change of a run's status is here or in ``ends``. Times are the database's clock.

Each function runs one statement on the default connection, in the caller's transaction if there is one. Those that
every task needs are functions in the database: see migration 0009.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from pressroom.text import carried
from pressroom.uuid7 import uuid7

# Literals, not parameters: Postgres proves from them that a partial index fits.
WAITING = "('queued','retrying')"
LIVE = "('queued','retrying','running')"


class DuplicateTaskIdError(ValueError):
    """A live run has this Celery id already; nothing was stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A call of a task, ready to be stored. Times are absolute (``eta``, ``expires``) or seconds from now."""

    celery_id: str
    name: str
    queue: str
    priority: int
    headers: str
    body: str
    properties: str
    eta: datetime.datetime | None = None
    countdown: float | None = None
    expires: datetime.datetime | None = None
    expires_in: float | None = None
    owner_id: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A run that this process may now execute."""

    run_id: uuid.UUID
    token: uuid.UUID
    attempt: int
    owner_id: int | None
    expires_at: datetime.datetime | None = None
    waited: float = dataclasses.field(default=0.0, compare=False)
    """Seconds from due to claimed, by the database's clock."""

    @classmethod
    def of(cls, header: dict[str, Any]) -> Claim:
        """By the run and the token that a message's header names; nothing else of it is known."""
        return cls(uuid.UUID(header["id"]), uuid.UUID(header["claim"]), 0, None)


LONGEST_ERROR = 100_000
"""Characters of an error's text and of a traceback that are kept: the first half, and the last."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed, in text that Postgres takes, whatever the exception's ``str()`` does."""

    error_type: str
    error: str
    traceback: str

    def __post_init__(self) -> None:
        for name in ("error_type", "error", "traceback"):
            object.__setattr__(self, name, _shortened(carried(getattr(self, name))))


def _shortened(text: str) -> str:
    half = LONGEST_ERROR // 2
    return (
        text if len(text) <= LONGEST_ERROR else f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"
    )


_TYPES = (
    "uuid", "text", "text", "text", "smallint", "bigint", "text", "text", "text", "timestamptz", "float8",
    "timestamptz", "float8",
)  # fmt: skip
# Lists take psycopg six times as long as what is in them: JSON, which has a quote at each end of a word, most of all.
# What stands between two of them cannot stand in one.
_SEPARATOR = "\x1f"
_JSON = slice(6, 9)
_ONE, _MANY = ([f"{array}::{kind}[]" for kind in _TYPES] for array in ("ARRAY[%s]", "%s"))
_MANY[_JSON] = ["string_to_array(%s, chr(31))"] * 3
_INSERT_ONE, _INSERT_MANY = (f"SELECT * FROM taskruns_insert_1({', '.join(values)})" for values in (_ONE, _MANY))


def insert(messages: Sequence[Message]) -> list[uuid.UUID]:
    """Store calls as queued runs and return their keys.

    Raises DuplicateTaskIdError where a live run has one of the ids; the others of the batch stay.
    """
    ids = [uuid7() for _ in messages]
    rows = [
        (run_id, m.celery_id, m.name, m.queue, m.priority, m.owner_id, m.headers, m.body, m.properties, m.eta,
         float(m.countdown or 0), m.expires, None if m.expires_in is None else float(m.expires_in))
        for run_id, m in zip(ids, messages, strict=True)
    ]  # fmt: skip
    with connection.cursor() as cursor:
        if len(rows) == 1:
            cursor.execute(_INSERT_ONE, rows[0])
        else:
            columns: list[Any] = [*map(list, zip(*rows, strict=True))]
            columns[_JSON] = map(_SEPARATOR.join, columns[_JSON])
            cursor.execute(_INSERT_MANY, columns)
        stored = {row[0] for row in cursor.fetchall()}
    refused = [m.celery_id for run_id, m in zip(ids, messages, strict=True) if run_id not in stored]
    if refused:
        raise DuplicateTaskIdError(f"a live run has the task id already: {', '.join(refused)}")
    return ids


def claim(run_id: uuid.UUID, token: uuid.UUID, worker_id: int, attempt: int | None = None) -> Claim | None:
    """Make a due run ours, or None where it is not to be had (done, running elsewhere, not due, expired).

    ``attempt``, where given, is how often the run had been claimed when the message was sent. A run that was claimed
    since may be another call by now (``retry``, ``replace``), and the message is not of that one.

    May be repeated with the same token when the answer to the first call was lost.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM taskruns_claim_2(%s, %s, %s, %s)", [run_id, token, worker_id, attempt])
        row = cursor.fetchone()
    return None if row is None else Claim(run_id, token, *row)


def update_held(
    assignments: str,
    values: list[Any],
    claim: Claim,
    attempt: tuple[str, Failure] | None = None,
    unless_cancelled: bool = False,
) -> bool:
    """One fenced UPDATE of a run that we hold, and the record of its attempt in the same statement."""
    update = f"UPDATE taskruns_taskrun SET {assignments} WHERE id = %s AND claim = %s AND status = 'running'"
    if unless_cancelled:
        update += " AND cancel_requested_at IS NULL"
    values = [*values, claim.run_id, claim.token]
    with connection.cursor() as cursor:
        if attempt is None:
            cursor.execute(update, values)
        else:
            outcome, failure = attempt
            cursor.execute(
                f"WITH changed AS ({update} RETURNING id, attempt, worker_id, started_at) {ATTEMPT_RECORD}",
                [*values, outcome, *dataclasses.astuple(failure)],
            )
        return bool(cursor.rowcount)


# The record of an attempt that did not succeed; wants a CTE named `changed`.
ATTEMPT_RECORD = """
INSERT INTO taskruns_taskattempt (run_id, number, outcome, worker_name, started_at, finished_at,
    error_type, error, traceback)
SELECT c.id, c.attempt, %s, coalesce(w.name, ''), c.started_at, clock_timestamp(), %s, %s, %s
FROM changed c LEFT JOIN taskruns_worker w ON w.id = c.worker_id
"""

LOST = Failure("WorkerLostError", "The worker died while it ran this task.", "")


@dataclasses.dataclass(frozen=True, slots=True)
class SettledRun:
    """A run whose status was changed by the ledger itself, with what Celery must be told of it."""

    run_id: uuid.UUID
    celery_id: str
    name: str
    headers: str
    body: str
    status: str


TOLD = "id, celery_id, name, headers, body, status"


def rows_ended(statement: str, values: list[Any]) -> list[SettledRun]:
    """What a statement that ends runs, and returns TOLD of them, has ended."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [SettledRun(*row) for row in cursor.fetchall()]


def as_ended(run_id: uuid.UUID) -> SettledRun:
    """The run as Celery is told of it."""
    return rows_ended(f"SELECT {TOLD} FROM taskruns_taskrun WHERE id = %s", [run_id])[0]


def ended(claim: Claim) -> bool:
    """Whether the attempt under this claim has ended: its finish was committed although the answer was lost."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM taskruns_taskrun WHERE id = %s AND claim = %s AND status <> 'running'",
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() is not None


def standing(claim: Claim) -> tuple[str, str]:
    """Status and error's class after the attempt under this claim; empty where the run went on or was replaced."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT status, error_type FROM taskruns_taskrun
            WHERE id = %s AND (claim = %s AND status <> 'queued' OR claim IS NULL)
            """,
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() or ("", "")


def repeat(run_id: uuid.UUID) -> uuid.UUID | None:
    """A new run of what has ended without success, linked to it. None where there is no such run.

    It has the Celery id again, so that who holds the result sees the new one. Raises DuplicateTaskIdError where a
    run with that id is live.
    """
    new_id = uuid7()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO taskruns_taskrun (id, celery_id, name, queue, priority, owner_id, status, headers, body,
                properties, created_at, run_at, attempt, losses, retry_of_id, progress_message, error_type, error,
                traceback)
            SELECT %s, celery_id, name, queue, priority, owner_id, 'queued', headers, body, properties,
                clock_timestamp(), clock_timestamp(), 0, 0, id, '', '', '', ''
            FROM taskruns_taskrun WHERE id = %s AND status IN ('dead', 'cancelled', 'expired')
            ON CONFLICT (celery_id) WHERE status IN {LIVE} DO NOTHING RETURNING id
            """,
            [new_id, run_id],
        )
        if cursor.fetchone():
            return new_id
        cursor.execute(
            f"""
            SELECT 1 FROM taskruns_taskrun old JOIN taskruns_taskrun live ON live.celery_id = old.celery_id
            WHERE old.id = %s AND live.status IN {LIVE}
            """,
            [run_id],
        )
        if cursor.fetchone():
            raise DuplicateTaskIdError("it runs again already")
    return None


def release(
    worker_id: int, after: float | None = None, token: uuid.UUID | None = None, but: uuid.UUID | None = None
) -> int:
    """Runs that a worker gives up, the attempt not counted: due in ``after`` seconds, or as before. Returns how many.

    With ``token`` those of its bundle only, all ``but`` one.

    What was to be cancelled is left to `lose_orphans`, which cancels it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_taskrun SET status = 'queued', attempt = attempt - 1, claim = NULL, published_at = NULL,
                run_at = coalesce(clock_timestamp() + make_interval(secs => %s), run_at)
            WHERE worker_id = %s AND status = 'running' AND cancel_requested_at IS NULL AND claim = coalesce(%s, claim)
              AND id IS DISTINCT FROM %s
            """,
            [after, worker_id, token, but],
        )
        return int(cursor.rowcount)


def progress(claim: Claim, current: int, total: int | None, message: str) -> bool:
    """Say how far a running task is. False where the claim is no longer ours."""
    return update_held(
        "progress_current = %s, progress_total = %s, progress_message = %s", [current, total, message], claim
    )


def cancel_running(run_id: uuid.UUID) -> bool:
    """Ask the worker of a running one to stop it; it hears of it with its next heartbeat."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_taskrun SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
            WHERE id = %s AND status = 'running'
            """,
            [run_id],
        )
        return bool(cursor.rowcount)


def is_cancel_requested(claim: Claim) -> bool:
    """Whether somebody wants the attempt under this claim to stop."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM taskruns_taskrun WHERE id = %s AND claim = %s AND cancel_requested_at IS NOT NULL",
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() is not None
