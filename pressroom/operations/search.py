"""Find runs among millions: newest first, by keyset, and never through more than LOOKED_THROUGH rows at once.

Live and ended runs are looked through side by side. An index drives each: the one on a rare status or on the name of an
ended run, else the primary key, which is ordered by time. All other conditions filter the rows that the index returns.
If too few rows remain to fill a page, the page says how far back the search has looked, and the next page continues
from there.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from typing import Any

from django.db import connection

from pressroom.models import LIVE, NOTABLE, Held, Status, TaskRun
from pressroom.operations.held import HELD, LATER
from pressroom.sql.runs import WAITING
from pressroom.uuid7 import uuid7_at

PAGE = 50
LOOKED_THROUGH = 25_000


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The conditions of a search; an empty one matches everything."""

    names: tuple[str, ...] = ()
    queue: str = ""
    status: str = ""
    """A `Status`, or one of `STANDINGS`."""
    error_type: str = ""
    text: str = ""
    """Part of the arguments."""
    key: str = ""
    """The id of the run or its Celery id, or the id of the request that called it."""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    """The earliest time of the call, and the time before which it was made."""
    before: uuid.UUID | None = None
    """The page contains only runs older than this one."""


@dataclasses.dataclass(frozen=True)
class Page:
    """Runs, newest first, and where the next page begins; None after the last page."""

    runs: list[TaskRun]
    before: uuid.UUID | None
    looked_back_to: datetime.datetime | None = None
    """How far back the search has looked, if there may be more."""


COLUMNS = """id, name, queue, status, attempt, created_at, run_at, started_at, cancel_requested_at, error_type,
    left(error, 300) AS error"""
TABLES = {
    "taskruns_liverun": "NULL::timestamptz AS finished_at, held",
    "taskruns_endedrun": "finished_at, NULL::smallint AS held",
}
"""Where runs are, and the columns that only one of the tables has: the time of the end, and why a run may not start."""
STANDINGS = {
    LATER: f"status IN {WAITING} AND run_at > now()",
    # What has a limit and has not reached its lane will be there in a moment.
    HELD: f"status IN {WAITING} AND held IS NOT NULL AND (held = {Held.PAUSED:d} OR run_at <= now())",
}
LIVE_TABLE = "taskruns_liverun"


def find(wanted: Wanted, limit: int = PAGE) -> Page:
    """Return at most ``limit`` runs that match, newest first."""
    if wanted.key:
        known = _by_key(wanted)
        if known:
            return Page(known, None)
    searches = [_Search(table, wanted) for table in _tables(wanted)]
    end = max((last for search in searches if (last := search.end())), default=None)
    filters, values = _filters(wanted)
    of_message, of_values = _message_filters(wanted)
    looked = " UNION ALL ".join(f"({search.statement})" for search in searches)
    looked_values = [value for search in searches for value in search.values]
    if end is not None:
        # Of another table's runs, older ones were looked at: the next page has those.
        filters, values = [*filters, "id >= %s"], [*values, end]
    rows = f"SELECT * FROM ({looked}) looked WHERE {' AND '.join(filters) or 'true'} ORDER BY id DESC"
    if not of_message:
        rows += " LIMIT %s"
        values = [*values, limit + 1]
    found = list(
        TaskRun.objects.raw(
            f"""
            SELECT found.*, left(c.body, 300) AS body_head
            FROM ({rows}) found JOIN taskruns_taskcall c ON c.id = found.id
            WHERE {" AND ".join(of_message) or "true"} ORDER BY found.id DESC LIMIT %s
            """,
            [*looked_values, *values, *of_values, limit + 1],
        )
    )
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1].pk)
    return Page(found, end, None if end is None else _made_at(end))


def _tables(wanted: Wanted) -> list[str]:
    is_live = wanted.status in LIVE or wanted.status in STANDINGS
    return [table for table in TABLES if not wanted.status or is_live == (table == LIVE_TABLE)]


class _Search:
    """The rows of one table that a search looks at."""

    def __init__(self, table: str, wanted: Wanted) -> None:
        conditions: list[str] = []
        self.values: list[Any] = []
        if wanted.status in NOTABLE or wanted.status == Status.RUNNING:
            # A literal, because the plan of a prepared statement cannot use the partial index with a parameter.
            conditions.append(f"status = '{Status(wanted.status).value}'")
        elif len(wanted.names) == 1 and table != LIVE_TABLE:
            conditions.append("name = %s")
            self.values.append(wanted.names[0])
        for condition, value in (
            ("id < %s", wanted.before),
            ("id >= %s", wanted.since and uuid7_at(wanted.since)),
            ("id < %s", wanted.until and uuid7_at(wanted.until)),
        ):
            if value is not None:
                conditions.append(condition)
                self.values.append(value)
        self._from = f"FROM {table} WHERE {' AND '.join(conditions) or 'true'}"
        # There are only as many running rows as slots. Without ORDER BY, Postgres reads them from their small index.
        order = "" if wanted.status == Status.RUNNING else "ORDER BY id DESC"
        self.statement = f"SELECT {COLUMNS}, {TABLES[table]} {self._from} {order} LIMIT {LOOKED_THROUGH}"

    def end(self) -> uuid.UUID | None:
        """Return the last run that the search looks at, or None if it looks at all of them."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id {self._from} ORDER BY id DESC OFFSET {LOOKED_THROUGH - 1} LIMIT 1", self.values)
            row = cursor.fetchone()
        return row[0] if row else None


def _filters(wanted: Wanted) -> tuple[list[str], list[Any]]:
    given: list[tuple[str, Any]] = [
        ("name = ANY(%s)", list(wanted.names)),
        ("queue = %s", wanted.queue),
        ("status = %s", "" if wanted.status in STANDINGS else wanted.status),
        ("error_type = %s", wanted.error_type),
    ]
    filters, values = _chosen(given)
    return [*filters, *([STANDINGS[wanted.status]] if wanted.status in STANDINGS else [])], values


def _message_filters(wanted: Wanted) -> tuple[list[str], list[Any]]:
    text = json.dumps(wanted.text)[1:-1]
    given: list[tuple[str, Any]] = [
        # `text` is escaped as in the stored JSON, where everything except ASCII is escaped.
        ("body ILIKE %s", text and f"%{_escaped(text)}%"),
        ("headers LIKE %s", wanted.key and f'%"request_id": "{_escaped(json.dumps(wanted.key)[1:-1])}"%'),
    ]
    return _chosen(given)


def _chosen(given: list[tuple[str, Any]]) -> tuple[list[str], list[Any]]:
    chosen = [(condition, value) for condition, value in given if value]
    return [condition for condition, _ in chosen], [value for _, value in chosen]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _by_key(wanted: Wanted) -> list[TaskRun]:
    try:
        key: uuid.UUID | None = uuid.UUID(wanted.key)
    except ValueError:
        key = None
    return list(
        TaskRun.objects.raw(
            f"""
            SELECT t.*, left(c.body, 300) AS body_head
            FROM (
                SELECT {COLUMNS}, finished_at, (SELECT l.held FROM taskruns_liverun l WHERE l.id = r.id) AS held
                FROM taskruns_taskrun r WHERE id = %s OR celery_id = %s
            ) t
            JOIN taskruns_taskcall c ON c.id = t.id ORDER BY t.id DESC LIMIT %s
            """,
            [key, wanted.key, PAGE],
        )
    )


def _made_at(key: uuid.UUID) -> datetime.datetime:
    """Return when a key was made, from its first 48 bits (RFC 9562)."""
    return datetime.datetime.fromtimestamp((key.int >> 80) / 1000, datetime.UTC)
