"""The statements about runs: claim, release and repeat them, and read where they stand.

`calls` stores them. `ends`, `lost_attempts`, `failed_dispatches` and `backlog` hold the other statements that change a
run's status. Each function runs one statement on the default connection, in the caller's transaction if there is one.
Times are those of the database's clock. The statements that every task needs are database functions: see
`pressroom.sql.functions`.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from pressroom.conf import declared_queues
from pressroom.database.connections import rows_of
from pressroom.text import carried
from pressroom.uuid7 import uuid7

# Literals, not parameters: from a literal Postgres can prove that a partial index applies.
WAITING = "('queued','retrying')"


WAIT_AGAIN = "CASE WHEN lane IS NOT NULL THEN 1 END"
"""The column ``held`` of a run that waits again: one with a limit gives up its place."""


class DuplicateTaskIdError(ValueError):
    """A live run already has this Celery id. The call was not stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A call of a task, ready to be stored.

    ``eta`` and ``expires`` are absolute times; ``countdown`` and ``expires_in`` are seconds from now.
    """

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
    lane: str | None = None
    """Where the run waits for a limit: see `pressroom.enqueue.limits`."""
    unique: tuple[str, float | None] | None = None
    """The key and the seconds of a unique call that is held back until the finish: see `pressroom.sql.calls`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """The right of this process to execute a run."""

    run_id: uuid.UUID
    token: uuid.UUID
    attempt: int
    owner_id: int | None
    expires_at: datetime.datetime | None = None
    waited: float = dataclasses.field(default=0.0, compare=False)
    """Seconds from due to claimed."""
    lane: str | None = dataclasses.field(default=None, compare=False)
    """The lane of a run with a limit. Its end frees a place."""

    @classmethod
    def of(cls, header: dict[str, Any]) -> Claim:
        """Return the claim that a message's header names by run and token. Its other fields are unknown."""
        return cls(uuid.UUID(header["id"]), uuid.UUID(header["claim"]), 0, None)


LONGEST_ERROR = 100_000
"""Characters of an error's text or traceback that the ledger keeps: half from the start, half from the end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed, as text that Postgres accepts, whatever the exception's ``str()`` returns."""

    error_type: str
    error: str
    traceback: str

    def __post_init__(self) -> None:
        for name in ("error_type", "error", "traceback"):
            object.__setattr__(self, name, _shortened(carried(getattr(self, name))))


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_ERROR:
        return text
    half = LONGEST_ERROR // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"


def claim(run_id: uuid.UUID, token: uuid.UUID, worker_id: int, attempt: int | None = None) -> Claim | None:
    """Claim a due run for a worker. Returns None if it cannot be claimed: it is finished, running, not due or expired.

    If ``attempt`` is given, it is how often the run had been claimed when the message was sent. A run that was claimed
    since may be another call by now (``retry``, ``replace``), to which the message does not belong: returns None.

    You may repeat the call with the same token when its answer was lost.
    """
    found = rows_of("SELECT * FROM taskruns_claim_2(%s, %s, %s, %s)", run_id, token, worker_id, attempt)
    return Claim(run_id, token, *found[0]) if found else None


# Records an attempt that did not succeed. The statement around it has to define a CTE named `changed`.
ATTEMPT_RECORD = """
INSERT INTO taskruns_taskattempt (run_id, number, outcome, worker_name, started_at, finished_at,
    error_type, error, traceback)
SELECT c.id, c.attempt, %s, coalesce(w.name, ''), c.started_at, clock_timestamp(), %s, %s, %s
FROM changed c LEFT JOIN taskruns_worker w ON w.id = c.worker_id
"""

LOST = Failure("WorkerLostError", "The worker died while it ran this task.", "")


@dataclasses.dataclass(frozen=True, slots=True)
class SettledRun:
    """A run whose status the ledger changed without a worker, with what Celery needs to know of it."""

    run_id: uuid.UUID
    celery_id: str
    name: str
    headers: str
    body: str
    status: str


_COLUMNS = """id, celery_id, name, queue, priority, owner_id, created_at, run_at, expires_at, published_at, started_at,
    attempt, losses, misses, unknown_since, claim, worker_id, cancel_requested_at, retry_of_id, progress_current,
    progress_total, progress_message"""
_OUTCOME = ("result", "children", "error_type", "error", "traceback")


def end_live(
    status: str,
    where: str,
    values: Sequence[Any],
    attempt: str = "",
    **outcome: str | None,
) -> list[SettledRun]:
    """Move the live runs that match ``where`` to those that have ended, with ``status``. Returns them.

    ``outcome`` gives the result, children, error_type, error and traceback; what it leaves out stays as it is.
    ``attempt`` is the outcome of the last attempt, to be recorded with it in the same statement.
    """
    kept = {"children": "NULL"}
    columns = ", ".join("%s" if name in outcome else kept.get(name, name) for name in _OUTCOME)
    record, recorded = "", []
    if attempt:
        record = f"noted AS ({ATTEMPT_RECORD}),"
        recorded = [attempt, outcome["error_type"], outcome["error"], outcome["traceback"]]
    return settled_runs(
        f"""
        WITH changed AS (DELETE FROM taskruns_liverun t WHERE {where} RETURNING t.*), {record}
        freed AS (
            INSERT INTO taskruns_freedplace (lane) SELECT lane FROM changed WHERE lane IS NOT NULL AND held IS NULL
        ),
        ended AS (
            INSERT INTO taskruns_endedrun (status, finished_at, {_COLUMNS}, {", ".join(_OUTCOME)})
            SELECT %s, clock_timestamp(), {_COLUMNS}, {columns} FROM changed
            RETURNING id, celery_id, name, status
        )
        SELECT e.id, e.celery_id, e.name, coalesce(c.headers, '{{}}'), coalesce(c.body, '[[], {{}}, {{}}]'), e.status
        FROM ended e LEFT JOIN taskruns_taskcall c ON c.id = e.id
        """,
        [*values, *recorded, status, *(outcome[name] for name in _OUTCOME if name in outcome)],
    )


def max_attempts_of_queues() -> tuple[str, list[Any]]:
    """Return a VALUES list of each declared queue and its ``max_attempts``, and the list's parameters."""
    queues = declared_queues().values()
    rows = ", ".join("(%s, %s::int)" for _ in queues)
    return rows, [value for queue in queues for value in (queue.name, queue.max_attempts)]


def settled_runs(statement: str, values: list[Any]) -> list[SettledRun]:
    """Run a statement that returns the columns of SettledRun. Returns its runs."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [SettledRun(*row) for row in cursor.fetchall()]


def as_ended(run_id: uuid.UUID) -> SettledRun:
    """Return what Celery needs to know of a run."""
    return all_as_ended([run_id])[0]


def all_as_ended(run_ids: list[uuid.UUID]) -> list[SettledRun]:
    """Return what Celery needs to know of runs."""
    if not run_ids:
        return []
    return settled_runs(
        """
        SELECT t.id, t.celery_id, t.name, c.headers, c.body, t.status
        FROM taskruns_taskrun t JOIN taskruns_taskcall c ON c.id = t.id WHERE t.id = ANY(%s) AND c.id = ANY(%s)
        """,
        [run_ids, run_ids],
    )


def ended(claim: Claim) -> bool:
    """Return whether the attempt under this claim has ended: its finish was committed although the answer was lost."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM taskruns_taskrun WHERE id = %s AND claim = %s AND status <> 'running'",
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() is not None


def standing(claim: Claim) -> tuple[str, str]:
    """Return status and error class after the attempt under this claim, or two empty texts.

    They are empty if the run is queued again or a later claim holds it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT status, error_type FROM taskruns_taskrun
            WHERE id = %s AND (claim = %s AND status <> 'queued' OR claim IS NULL)
            """,
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() or ("", "")


def repeat(run_id: uuid.UUID, lane: str | None = None) -> uuid.UUID | None:
    """Copy a run that is dead, cancelled or expired as a new queued run, linked to it. Returns None for other runs.

    ``lane`` is that of a run with a limit. The new run has the same Celery id, so an AsyncResult of the old run shows
    the new one. Raises DuplicateTaskIdError if a live run has that id.
    """
    new_id = uuid7()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH old AS (
                SELECT e.*, c.headers, c.body, c.properties
                FROM taskruns_endedrun e JOIN taskruns_taskcall c ON c.id = e.id
                WHERE e.id = %s AND c.id = %s AND e.status IN ('dead', 'cancelled', 'expired')
            ),
            new AS (
                INSERT INTO taskruns_liverun (id, celery_id, name, queue, priority, owner_id, status, created_at,
                    run_at, attempt, losses, misses, retry_of_id, progress_message, error_type, error, traceback,
                    lane, held)
                SELECT %s, celery_id, name, queue, priority, owner_id, 'queued', clock_timestamp(), clock_timestamp(),
                    0, 0, 0, id, '', '', '', '', %s, CASE WHEN %s::text IS NOT NULL THEN 1 END
                FROM old ON CONFLICT (celery_id) DO NOTHING RETURNING id
            )
            INSERT INTO taskruns_taskcall (id, headers, body, properties)
            SELECT new.id, headers, body, properties FROM new, old
            """,
            [run_id, run_id, new_id, lane, lane],
        )
        if cursor.rowcount:
            return new_id
        cursor.execute(
            """
            SELECT 1 FROM taskruns_endedrun old JOIN taskruns_liverun live ON live.celery_id = old.celery_id
            WHERE old.id = %s
            """,
            [run_id],
        )
        if cursor.fetchone():
            raise DuplicateTaskIdError("a live run already has this task id")
    return None


def release(
    worker_id: int, after: float | None = None, token: uuid.UUID | None = None, but: uuid.UUID | None = None
) -> int:
    """Give back the runs that a worker holds, without counting the attempt. Returns how many.

    They are due in ``after`` seconds, or when they were before. With ``token``, only the runs of that bundle are given
    back, except ``but``. Runs whose cancellation was requested are left to `lose_orphans`, which cancels them.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE taskruns_liverun SET status = 'queued', attempt = attempt - 1, claim = NULL, published_at = NULL,
                held = {WAIT_AGAIN},
                run_at = coalesce(clock_timestamp() + make_interval(secs => %s), run_at)
            WHERE worker_id = %s AND status = 'running' AND cancel_requested_at IS NULL AND claim = coalesce(%s, claim)
              AND id IS DISTINCT FROM %s
            """,
            [after, worker_id, token, but],
        )
        return int(cursor.rowcount)


def make_due(celery_id: str) -> bool:
    """Make a run due now that waits for a later time. Returns False if there is none with this Celery id."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE taskruns_liverun SET run_at = clock_timestamp()
            WHERE celery_id = %s AND status IN {WAITING} AND run_at > clock_timestamp()
            """,
            [celery_id],
        )
        return bool(cursor.rowcount)


def progress(claim: Claim, current: int, total: int | None, message: str) -> bool:
    """Write the progress of the run under a claim. Returns False if the claim is no longer held."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_liverun SET progress_current = %s, progress_total = %s, progress_message = %s
            WHERE id = %s AND claim = %s AND status = 'running'
            """,
            [current, total, message, claim.run_id, claim.token],
        )
        return bool(cursor.rowcount)


def cancel_running(run_id: uuid.UUID) -> bool:
    """Request the cancellation of a running run. Its worker reads the request with its next heartbeat.

    Returns False if the run is not running.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE taskruns_liverun SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
            WHERE id = %s AND status = 'running'
            """,
            [run_id],
        )
        return bool(cursor.rowcount)


def is_cancel_requested(claim: Claim) -> bool:
    """Return whether the cancellation of the attempt under this claim was requested."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM taskruns_liverun WHERE id = %s AND claim = %s AND cancel_requested_at IS NOT NULL",
            [claim.run_id, claim.token],
        )
        return cursor.fetchone() is not None
