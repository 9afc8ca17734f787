"""Which runs match a filter. Pages, API and bulk actions share the filter and its statements.

No statement looks through more than a given number of rows of a table. Live and ended runs are looked through side by
side, newest first. An index drives each: the one on a rare status, on the owner, or on the name of an ended run, else
the primary key, which is ordered by time. All other conditions filter the rows that the index returns. If too few rows
remain, the caller learns how far back the search has looked, and continues from there.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection

from pressroom.models import LIVE, Held, Status, Worker
from pressroom.models import WAITING as WAITING_STATUSES
from pressroom.sql.runs import WAITING
from pressroom.text import shown
from pressroom.uuid7 import uuid7_at

LATER, HELD = "later", "held"
"""Filters beside the statuses: runs that are due in the future, and runs that a limit or a pause holds."""
STANDINGS = {
    LATER: f"status IN {WAITING} AND run_at > coalesce(%s, now())",
    # What has a limit and has not reached its lane will be there in a moment.
    HELD: f"status IN {WAITING} AND held IS NOT NULL AND (held = {Held.PAUSED:d} OR run_at <= coalesce(%s, now()))",
}
"""Their conditions, each with a time as its parameter; null for now."""
HEAD = 1_000
"""Characters at the start of a result or of an error's text that are searched: each may be long."""
LOOKED_THROUGH = 25_000
"""Rows of a table that one page looks through at most."""
MOST_WORKERS = 5_000
"""How many processes with a matching name the filter by worker knows, the latest ones. Each start is another one."""
FIRST_YEAR, LAST_YEAR = 1970, 9000
"""The years of a call that a key can express, and that every time zone can show."""
BAD_YEAR = f"The year must be between {FIRST_YEAR} and {LAST_YEAR}."
BAD_SPAN = "The end is not after the beginning."
LIVE_TABLE, ENDED_TABLE = "taskruns_liverun", "taskruns_endedrun"
_OF_TABLE = {
    LIVE_TABLE: "NULL::timestamptz AS finished_at, held",
    ENDED_TABLE: "finished_at, NULL::smallint AS held",
}
"""The columns that only one of the tables has: the time of the end, and why a run may not start."""
_RUNNING = f"status = '{Status.RUNNING.value}'"


def user_id_of(name: str) -> int | None:
    """Return the key of the user with this name, or None if there is none."""
    users = get_user_model()._default_manager
    return users.filter(**{get_user_model().USERNAME_FIELD: name}).values_list("pk", flat=True).first()


def has_good_year(moment: datetime.datetime) -> bool:
    """Return whether a filter can use the moment. BAD_YEAR says why not."""
    return FIRST_YEAR < moment.year < LAST_YEAR


def is_good_span(since: datetime.datetime | None, until: datetime.datetime | None) -> bool:
    """Return whether a run can be between the two, of which None is no bound. BAD_SPAN says why not."""
    return since is None or until is None or since < until


@dataclasses.dataclass(frozen=True)
class RunFilter:
    """The conditions of a search; an empty one matches everything."""

    names: tuple[str, ...] = ()
    queue: str = ""
    status: str = ""
    """A `Status`, or one of `STANDINGS`."""
    error_type: str = ""
    """The class of the last error."""
    error: str = ""
    """Part of the class of the last error, or of the first `HEAD` characters of its text."""
    text: str = ""
    """Part of the arguments."""
    result: str = ""
    """Part of the first `HEAD` characters of what the task returned, as JSON."""
    worker: str = ""
    """Part of the name of the worker that made the last attempt."""
    owner_id: int | None = None
    key: str = ""
    """The id of the run or its Celery id, or the id of the request that called it."""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    """The earliest time of the call, and the time before which it was made. Years are FIRST_YEAR to LAST_YEAR."""

    def to_json(self) -> dict[str, Any]:
        """Return the conditions that are set, as JSON data."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value not in ((), "", None)}
        return {
            name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in fields.items()
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunFilter:
        """Return the filter that `to_json` returned as ``data``. Raises ValueError or TypeError for anything else."""
        if not isinstance(data, dict):
            raise TypeError(f"a filter is a dictionary, not {shown(data)}")
        fields = dict(data)
        for name, value in data.items():
            if name == "names":
                is_right = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
            else:
                is_right = isinstance(value, int if name == "owner_id" else str)
            if not is_right:
                raise TypeError(f"the condition {name} cannot be {shown(value)}")
        for name in {"since", "until"} & fields.keys():
            fields[name] = datetime.datetime.fromisoformat(fields[name])
        return cls(**fields | {"names": tuple(fields.get("names", ()))})

    def statuses(self, among: Collection[str] = tuple(Status)) -> set[str]:
        """Return the statuses, of those in ``among``, that a run which matches may have."""
        asked: set[str] = set(among)
        if self.status:
            asked &= set(WAITING_STATUSES) if self.status in STANDINGS else {self.status}
        if self.result:
            asked &= {Status.SUCCEEDED}
        if self.error or self.error_type:
            # A success clears the error.
            asked -= {Status.SUCCEEDED}
        return asked


class Looked:
    """The rows that one statement looks through, and which of them match."""

    def __init__(
        self,
        wanted: RunFilter,
        most: int,
        before: uuid.UUID | None = None,
        among: Collection[str] = tuple(Status),
        also: str = "true",
        also_values: Sequence[Any] = (),
        at: datetime.datetime | None = None,
    ) -> None:
        """Look at up to ``most`` rows for each index that is used, older than ``before``, with a status in ``among``.

        ``also`` is a condition in SQL on the columns of the rows, and ``also_values`` are its parameters.
        What is later and what is due is judged by the time ``at``, or now.
        """
        statuses = wanted.statuses(among)
        self._columns = f"""id, name, queue, priority, status, attempt, created_at, run_at, started_at,
            cancel_requested_at, error_type, left(error, {HEAD if wanted.error else 300}) AS error, worker_id, owner_id
            {f", left(result, {HEAD}) AS result_head" if wanted.result else ""}"""
        self._bounds, self._bound_values = _chosen(
            [
                ("id < %s", before),
                ("id >= %s", wanted.since and uuid7_at(wanted.since)),
                ("id < %s", wanted.until and uuid7_at(wanted.until)),
            ]
        )
        parts = [self._part(*part) for part in _parts(wanted, statuses)]
        # Of another part's runs, older ones were looked at: the next search has those.
        self.end = max((last for sql, values in parts if (last := _last(sql, values, most))), default=None)
        """The oldest run that was looked at, or None if there is none that was not looked at."""
        filters, filter_values = _filters(wanted, statuses)
        if wanted.status in STANDINGS:
            filters, filter_values = [*filters, STANDINGS[wanted.status]], [*filter_values, at]
        if self.end is not None:
            filters, filter_values = [*filters, "id >= %s"], [*filter_values, self.end]
        looked = " UNION ALL ".join(
            f"(SELECT {self._columns}, {_OF_TABLE[_table_in(sql)]} {sql} {_order(sql)} LIMIT {most})"
            for sql, _ in parts
        )
        self._of_message, self._message_values = _message_filters(wanted)
        self._rows = f"SELECT * FROM ({looked}) looked WHERE {' AND '.join([*filters, also])}" if parts else ""
        self._values = [*(value for _, values in parts for value in values), *filter_values, *also_values]

    def _part(self, table: str, driver: str, values: list[Any]) -> tuple[str, list[Any]]:
        conditions = [*([driver] if driver else []), *self._bounds]
        return f"FROM {table} WHERE {' AND '.join(conditions) or 'true'}", [*values, *self._bound_values]

    def newest(self, limit: int, columns: str, of_call: str = "") -> tuple[str, list[Any]]:
        """Return a statement for the newest ``limit`` of the runs that match, and its parameters.

        ``columns`` are of ``found``; ``of_call`` are of ``c``, the table of the calls.
        """
        if not self._rows:
            return f"SELECT {columns} FROM taskruns_liverun found WHERE false", []
        rows, values = f"{self._rows} ORDER BY id DESC", self._values
        if not self._of_message:
            rows, values = f"{rows} LIMIT %s", [*values, limit]
            if not of_call:
                return f"SELECT {columns} FROM ({rows}) found ORDER BY found.id DESC", values
        return (
            f"""
            SELECT {columns}{of_call and f", {of_call}"} FROM ({rows}) found JOIN taskruns_taskcall c ON c.id = found.id
            WHERE {" AND ".join(self._of_message) or "true"} ORDER BY found.id DESC LIMIT %s
            """,
            [*values, *self._message_values, limit],
        )

    def count(self) -> int:
        """Return how many of the rows match."""
        if not self._rows:
            return 0
        statement = f"SELECT count(*) FROM ({self._rows}) found"
        if self._of_message:
            statement += f" JOIN taskruns_taskcall c ON c.id = found.id WHERE {' AND '.join(self._of_message)}"
        with connection.cursor() as cursor:
            cursor.execute(statement, [*self._values, *self._message_values])
            return int(cursor.fetchall()[0][0])


def runs_with_key(key: str) -> list[uuid.UUID]:
    """Return the runs with this id or this Celery id, newest first."""
    try:
        run_id: uuid.UUID | None = uuid.UUID(key)
    except ValueError:
        run_id = None
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM taskruns_taskrun WHERE id = %s OR celery_id = %s ORDER BY id DESC LIMIT 50",
                       [run_id, key])  # fmt: skip
        return [found for (found,) in cursor.fetchall()]


def _parts(wanted: RunFilter, statuses: set[str]) -> list[tuple[str, str, list[Any]]]:
    """Return each table that is looked through, with the condition whose index drives the search, and its parameters.

    A status is a literal, because the plan of a prepared statement cannot use the partial index with a parameter.
    """
    of_owner = ("", []) if wanted.owner_id is None else ("owner_id = %s", [wanted.owner_id])
    parts: list[tuple[str, str, list[Any]]] = []
    live, ended = statuses & set(LIVE), statuses - set(LIVE)
    if live and live <= {Status.RUNNING, Status.RETRYING}:
        parts += [(LIVE_TABLE, f"status = '{Status(one).value}'", []) for one in sorted(live)]
    elif live:
        parts.append((LIVE_TABLE, *of_owner))
    if Status.SUCCEEDED not in ended:
        parts += [(ENDED_TABLE, f"status = '{Status(one).value}'", []) for one in sorted(ended)]
    elif wanted.owner_id is None and len(wanted.names) == 1:
        parts.append((ENDED_TABLE, "name = %s", [wanted.names[0]]))
    else:
        parts.append((ENDED_TABLE, *of_owner))
    return parts


def _table_in(part: str) -> str:
    return part.split(maxsplit=2)[1]


def _order(part: str) -> str:
    # There are only as many running rows as slots. Without ORDER BY, Postgres reads them from their small index.
    return "" if _RUNNING in part else "ORDER BY id DESC"


def _last(part: str, values: list[Any], most: int) -> uuid.UUID | None:
    """Return the last run that the search looks at, or None if it looks at all of them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id {part} ORDER BY id DESC OFFSET {most - 1} LIMIT 1", values)
        row = cursor.fetchone()
    return row[0] if row else None


def _filters(wanted: RunFilter, statuses: set[str]) -> tuple[list[str], list[Any]]:
    error = f"%{_escaped(wanted.error)}%" if wanted.error else ""
    given: list[tuple[str, Any]] = [
        ("name = ANY(%s)", list(wanted.names)),
        ("queue = %s", wanted.queue),
        ("status = ANY(%s)", [str(one) for one in statuses] if len(statuses) < len(Status) else []),
        ("error_type = %s", wanted.error_type),
        ("(error_type ILIKE %s OR error ILIKE %s)", error and (error, error)),
        ("result_head ILIKE %s", wanted.result and f"%{_escaped(_in_json(wanted.result))}%"),
        ("owner_id = %s", wanted.owner_id),
    ]
    if wanted.worker:
        # No worker has the id 0: an empty list would be taken for no condition.
        given.append(("worker_id = ANY(%s)", _workers(wanted.worker) or [0]))
    return _chosen(given)


def _workers(name: str) -> list[int]:
    return list(Worker.objects.filter(name__icontains=name).order_by("-pk").values_list("pk", flat=True)[:MOST_WORKERS])


def _message_filters(wanted: RunFilter) -> tuple[list[str], list[Any]]:
    return _chosen(
        [
            ("c.body ILIKE %s", wanted.text and f"%{_escaped(_in_json(wanted.text))}%"),
            (
                "(c.id = ANY(%s) OR c.headers LIKE %s)",
                wanted.key and (runs_with_key(wanted.key), f'%"request_id": "{_escaped(_in_json(wanted.key))}"%'),
            ),
        ]
    )


def _in_json(text: str) -> str:
    """Return the text as it is within stored JSON, where everything except ASCII is escaped."""
    return json.dumps(text)[1:-1]


def _chosen(given: list[tuple[str, Any]]) -> tuple[list[str], list[Any]]:
    """Return the conditions that have a value, and their parameters. A tuple has one for each placeholder."""
    chosen = [(condition, value) for condition, value in given if value or value == 0]
    values = [one for _, value in chosen for one in (value if isinstance(value, tuple) else (value,))]
    return [condition for condition, _ in chosen], values


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
