"""What a slot takes from the ledger without a message, and writes of it, under the token of the message that it had."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from pressroom.sql.runs import Claim


@dataclasses.dataclass(frozen=True, slots=True)
class SuccessToWrite:
    """A run of a bundle that ended well, and is to be written."""

    claim: Claim
    result: str | None
    children: str | None
    began: float
    ended: float
    """Seconds ago."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run taken from the backlog, claimed."""

    claim: Claim
    celery_id: str
    name: str
    headers: str
    body: str
    properties: str


@dataclasses.dataclass(frozen=True, slots=True)
class FinishedRun:
    """How a run ended, as the ledger has it."""

    celery_id: str
    name: str
    status: str
    error_type: str
    waited: float | None
    runtime: float | None
    """Both in seconds; neither where it is to be tried again."""


_EXCHANGE_ONE, _EXCHANGE_MANY = (
    f"""
    SELECT * FROM taskruns_exchange_2(%s, %s, %s, {array}::uuid[], {array}::text[], {array}::text[], {array}::float8[],
        {array}::float8[], string_to_array(%s, chr(10)), string_to_array(%s, chr(10)), %s, %s)
    """
    for array in ("ARRAY[%s]", "%s")
)


def exchange(
    first: Claim,
    worker_id: int,
    successes: Sequence[SuccessToWrite],
    names: Sequence[str],
    revoked: Sequence[str],
    limits: str,
    most: int,
) -> tuple[set[uuid.UUID], list[ClaimedRun]]:
    """End these runs and claim up to ``most`` others, under the token of ``first``, which has ended.

    Those are the next of its queue and priority, or of one that is more urgent, as far as they are calls of ``names``,
    not those with the Celery ids ``revoked``, no attempt of theirs was lost, and their headers have ``limits`` in them.
    Returns the keys of what has ended (of another, the claim was lost), and what was claimed, the longest due first.

    May be repeated when the answer was lost: it returns what is claimed under the token, if anything is.
    """
    told = [(one.claim.run_id, one.result, one.children, one.began, one.ended) for one in successes]
    ends: list[Any] = [*told[0]] if len(told) == 1 else [*map(list, zip(*told, strict=True))] or [[]] * 5
    with connection.cursor() as cursor:
        cursor.execute(
            _EXCHANGE_ONE if len(told) == 1 else _EXCHANGE_MANY,
            [first.run_id, first.token, worker_id, *ends, "\n".join(names), "\n".join(revoked), limits, most],
        )
        rows = cursor.fetchall()
    ended = {row[0] for row in rows if row[1]}
    taken = sorted((row for row in rows if not row[1]), key=lambda row: (row[2], row[0]))
    return ended, [ClaimedRun(Claim(row[0], first.token, *row[3:7]), *row[7:]) for row in taken]


def running_under(worker_id: int, token: uuid.UUID) -> list[Claim]:
    """What runs under a token: the message's run, what was taken after it, or nothing any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, claim, attempt, owner_id FROM taskruns_taskrun
            WHERE worker_id = %s AND status = 'running' AND claim = %s
            """,
            [worker_id, token],
        )
        return [Claim(*row) for row in cursor.fetchall()]


def ended_under(token: uuid.UUID, first: uuid.UUID, seconds: float) -> list[FinishedRun]:
    """What has ended under a token within so many seconds, or is to be tried again, but for the message's run."""
    told = """
    SELECT celery_id, name, status, error_type,
        CASE WHEN status <> 'retrying' THEN extract(epoch FROM started_at - run_at)::float8 END,
        extract(epoch FROM finished_at - started_at)::float8
    FROM taskruns_taskrun WHERE claim = %s AND id <> %s
    """
    with connection.cursor() as cursor:
        # Each by an index of its own.
        cursor.execute(
            f"""
            {told} AND finished_at > statement_timestamp() - make_interval(secs => %s)
            UNION ALL {told} AND status = 'retrying'
            """,
            [token, first, seconds, token, first],
        )
        return [FinishedRun(*row) for row in cursor.fetchall()]
