"""Find runs among millions: newest first, by keyset, and never through more than LOOKED_THROUGH rows at once.

`pressroom.sql.run_filter` says how. If too few rows remain to fill a page, the page says how far back the search has
looked, and the next page continues from there.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid

from pressroom.models import TaskRun
from pressroom.sql.run_filter import LOOKED_THROUGH, Looked, RunFilter, runs_with_key

PAGE = 50


@dataclasses.dataclass(frozen=True)
class Page:
    """Runs, newest first, and where the next page begins; None after the last page."""

    runs: list[TaskRun]
    before: uuid.UUID | None
    looked_back_to: datetime.datetime | None = None
    """How far back the search has looked, if there may be more."""


COLUMNS = """id, name, queue, status, attempt, created_at, run_at, started_at, cancel_requested_at, error_type,
    left(error, 300) AS error"""


def find(wanted: RunFilter, limit: int = PAGE, before: uuid.UUID | None = None) -> Page:
    """Return at most ``limit`` runs that match, newest first, and only those older than ``before``."""
    if wanted.key:
        known = _by_key(wanted.key)
        if known:
            return Page(known, None)
    looked = Looked(wanted, LOOKED_THROUGH, before)
    found = list(TaskRun.objects.raw(*looked.newest(limit + 1, "found.*", "left(c.body, 300) AS body_head")))
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1].pk)
    return Page(found, looked.end, None if looked.end is None else _made_at(looked.end))


def _by_key(key: str) -> list[TaskRun]:
    return list(
        TaskRun.objects.raw(
            f"""
            SELECT t.*, left(c.body, 300) AS body_head
            FROM (
                SELECT {COLUMNS}, finished_at, (SELECT l.held FROM taskruns_liverun l WHERE l.id = r.id) AS held
                FROM taskruns_taskrun r WHERE id = ANY(%s)
            ) t
            JOIN taskruns_taskcall c ON c.id = t.id ORDER BY t.id DESC LIMIT %s
            """,
            [runs_with_key(key), PAGE],
        )
    )


def _made_at(key: uuid.UUID) -> datetime.datetime:
    """Return when a key was made, from its first 48 bits (RFC 9562)."""
    return datetime.datetime.fromtimestamp((key.int >> 80) / 1000, datetime.UTC)
