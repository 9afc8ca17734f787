"""The statements of a bundle: a slot claims more runs from the ledger, and writes their ends, without a message.

All runs of a bundle are claimed under the token of the message that the slot began with.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from pressroom.database.connections import rows_of
from pressroom.sql.runs import Claim


@dataclasses.dataclass(frozen=True, slots=True)
class SuccessToWrite:
    """A run of a bundle that succeeded. Its end is not written yet."""

    claim: Claim
    result: str | None
    children: str | None
    began: float
    ended: float
    """``began`` and ``ended`` are seconds ago."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that a slot claimed from the backlog."""

    claim: Claim
    celery_id: str
    name: str
    headers: str
    body: str
    properties: str


@dataclasses.dataclass(frozen=True, slots=True)
class FinishedRun:
    """How a run ended, as the ledger records it."""

    celery_id: str
    name: str
    status: str
    error_type: str
    waited: float | None
    runtime: float | None
    """``waited`` and ``runtime`` are seconds. Both are None for a run that will be retried."""


# psycopg needs much longer for a list than for a text. A single run is therefore passed as plain values, and names and
# revoked ids as one text each.
_ONE = """
    SELECT * FROM taskruns_finish_and_claim_3(%s, %s, %s, %s::smallint, ARRAY[%s]::uuid[], ARRAY[%s]::text[],
        ARRAY[%s]::text[], ARRAY[%s]::float8[], ARRAY[%s]::float8[], string_to_array(%s, chr(10)),
        string_to_array(%s, chr(10)), %s, %s)
    """
_MANY = """
    SELECT * FROM taskruns_finish_and_claim_3(%s, %s, %s, %s::smallint, %s::uuid[], %s::text[], %s::text[],
        %s::float8[], %s::float8[], string_to_array(%s, chr(10)), string_to_array(%s, chr(10)), %s, %s)
    """


def finish_and_claim(
    token: uuid.UUID,
    worker_id: int,
    queue: str,
    priority: int,
    successes: Sequence[SuccessToWrite],
    names: Sequence[str],
    revoked: Sequence[str],
    limits: str,
    most: int,
) -> tuple[set[uuid.UUID], list[ClaimedRun]]:
    """End the runs of ``successes`` and claim up to ``most`` others under ``token``, whose message's own run has ended.

    The statement claims the next due runs of ``queue`` that are as urgent as ``priority`` or more urgent. It claims
    only runs of the tasks ``names`` that never lost an attempt and whose headers contain the text ``limits``. It skips
    the Celery ids ``revoked``.

    Returns the keys of the runs that it ended and the runs that it claimed, the longest due first. A run of
    ``successes`` whose key is missing had lost its claim.

    You may repeat the call when its answer was lost: it then returns the runs that are claimed under the token.
    """
    columns: list[list[Any]] = [
        [one.claim.run_id for one in successes],
        [one.result for one in successes],
        [one.children for one in successes],
        [one.began for one in successes],
        [one.ended for one in successes],
    ]
    if len(successes) == 1:
        statement, ends = _ONE, [column[0] for column in columns]
    else:
        statement, ends = _MANY, columns
    found = rows_of(
        statement, token, worker_id, queue, priority, *ends, "\n".join(names), "\n".join(revoked), limits, most
    )
    ended = {row[0] for row in found if row[1]}
    taken = sorted((row for row in found if not row[1]), key=lambda row: (row[2], row[0]))
    return ended, [ClaimedRun(Claim(row[0], token, *row[3:7]), *row[7:]) for row in taken]


def running_under(worker_id: int, token: uuid.UUID) -> list[Claim]:
    """Return the claims of the runs that still run under the token: the message's own run and those taken after it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, claim, attempt, owner_id FROM taskruns_liverun
            WHERE worker_id = %s AND status = 'running' AND claim = %s
            """,
            [worker_id, token],
        )
        return [Claim(*row) for row in cursor.fetchall()]


def ended_under(token: uuid.UUID, first: uuid.UUID, queue: str, seconds: float) -> list[FinishedRun]:
    """Return the runs of the queue under the token that ended in the last ``seconds`` or will be retried.

    Leaves out ``first``.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT celery_id, name, status, error_type, extract(epoch FROM started_at - run_at)::float8,
                extract(epoch FROM finished_at - started_at)::float8
            FROM taskruns_endedrun
            WHERE queue = %s AND finished_at > statement_timestamp() - make_interval(secs => %s)
              AND claim = %s AND id <> %s
            UNION ALL
            SELECT celery_id, name, status, error_type, NULL, NULL
            FROM taskruns_liverun WHERE claim = %s AND id <> %s AND status = 'retrying'
            """,
            [queue, seconds, token, first, token, first],
        )
        return [FinishedRun(*row) for row in cursor.fetchall()]
