"""The partitions of what is appended: calls, ended runs and attempts, a partition for each day (UTC).

A day's partition is made ahead of the day. Retention drops it; what must be kept for longer is carried over to the
partition ``old`` before, in the same transaction. What changes partitions waits at most LOCK_TIMEOUT for each lock,
because every call waits behind it.
"""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import TypeVar

from django.db import OperationalError, connection, transaction
from django.db.migrations import RunSQL
from psycopg import errors

from pressroom.sql import figures
from pressroom.uuid7 import uuid7_at

logger = logging.getLogger(__name__)
T = TypeVar("T")

KEYS = {"taskruns_taskcall": "id", "taskruns_endedrun": "id", "taskruns_taskattempt": "run_id"}
"""The partitioned tables and the column that each is partitioned by: a run's key."""
STORAGE = "toast_tuple_target = 4080"
"""Rows up to half a page stay whole: each is written once, so moving its text elsewhere would only cost."""
AHEAD = 3
"""Days for which partitions are made ahead."""
LOCK_TIMEOUT = 30
"""Milliseconds that a statement waits for a lock. A drop locks three tables, one after the other."""
ATTEMPTS = 20
"""How often a change of the partitions is tried before it is left to the next round."""
ADVISORY_LOCK = 0x7061727469
"""The key of the advisory lock of whoever changes partitions. Another process then waits its turn."""
LONGEST_PAUSE = 2.0
"""Most seconds between two tries."""
_DAY = datetime.timedelta(days=1)


def create() -> RunSQL:
    """Return the migration's operation that creates the partitioned tables and the view of all runs."""
    return RunSQL(
        (files(__package__) / "history.sql").read_text(),
        f"DROP VIEW IF EXISTS taskruns_taskrun; DROP TABLE IF EXISTS {', '.join(KEYS)}",
    )


def make_ahead(today: datetime.date | None = None, attempts: int = 0) -> list[datetime.date]:
    """Make the partitions of today and of the next AHEAD days that are missing. Returns their days.

    Also makes a partition for each earlier day of which a row is in the default partition.
    """
    today = today or datetime.datetime.now(datetime.UTC).date()
    existing = _days()
    if existing is None:
        return []
    wanted = {today + number * _DAY for number in range(AHEAD + 1)}
    missing = sorted((wanted | _days_by_default(before=today)) - existing)
    if not existing:
        _unless_locked(lambda: attach_old(min(missing)))
    # Days to come first: nobody writes to them yet.
    for day in reversed(missing):
        _unless_locked(lambda day=day: _make(day), attempts)  # type: ignore[misc]
    return missing


def drop_day(day: datetime.date, kept: Mapping[str, datetime.datetime]) -> int:
    """Drop the partitions of ``day`` and return how many ended runs went with them.

    For each status, ``kept`` gives the time from which on ended runs are kept. Those, and the calls of live runs, are
    carried over to the partition ``old``.
    """
    # Each by itself: a lock on ``old`` must not be held while another one is waited for.
    _unless_locked(lambda: _promise_bound(day))
    _unless_locked(_validate_bound)
    return _unless_locked(lambda: _drop(day, kept))


def days() -> list[datetime.date]:
    """Return the days that have a partition, the oldest first."""
    return sorted(_days() or ())


def first_day_key() -> uuid.UUID:
    """Return the smallest key that a day's partition takes. Rows with smaller keys are in the partition ``old``."""
    first = min(_days() or (), default=datetime.datetime.now(datetime.UTC).date())
    return uuid.UUID(_bound(first))


def delete_runs(run_ids: Sequence[uuid.UUID]) -> int:
    """Delete ended runs with their calls and attempts. Returns how many there were.

    Runs that the figures do not count yet are noted for them.
    """
    with connection.cursor() as cursor:
        for table, key in KEYS.items():
            if table == "taskruns_endedrun":
                cursor.execute(figures.DELETE, [list(run_ids)])
                deleted = cursor.fetchone()[0]
            else:
                cursor.execute(f"DELETE FROM {table} WHERE {key} = ANY(%s)", [list(run_ids)])
    return int(deleted)


def _unless_locked(change: Callable[[], T], attempts: int = 0) -> T:
    """Make a change in a transaction. Try again if another transaction holds a lock for too long."""
    attempts = attempts or ATTEMPTS
    for attempt in range(attempts):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}ms'")
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
                return change()
        except OperationalError as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable) or attempt == attempts - 1:
                raise
            # Those who wait behind the lock go first.
            time.sleep(min(0.1 * 2**attempt, LONGEST_PAUSE))
    raise AssertionError("unreachable")


def _days() -> set[datetime.date] | None:
    """Return the days that have a partition, or None before the tables exist."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = to_regclass('taskruns_taskcall')"
        )
        names = [name for (name,) in cursor.fetchall()]
    if not names:
        return None
    parts = (name.removeprefix("taskruns_taskcall_") for name in names)
    return {datetime.date.fromisoformat(part) for part in parts if part.isdigit()}


def _days_by_default(before: datetime.date) -> set[datetime.date]:
    found: set[datetime.date] = set()
    with connection.cursor() as cursor:
        for table, key in KEYS.items():
            cursor.execute(
                f"SELECT DISTINCT left({key}::text, 13) FROM {table}_default WHERE {key} < %s", [_bound(before)]
            )
            for (start,) in cursor.fetchall():
                moment = datetime.datetime.fromtimestamp(int(start.replace("-", ""), 16) / 1000, datetime.UTC)
                found.add(moment.date())
    return found


def _bound(day: datetime.date) -> str:
    return str(uuid7_at(datetime.datetime.combine(day, datetime.time(), datetime.UTC)))


def attach_old(day: datetime.date) -> None:
    """Make the partition of all days before ``day``, if there is none yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('taskruns_taskcall_old') IS NOT NULL")
        if cursor.fetchall()[0][0]:
            return
        for table in KEYS:
            cursor.execute(f"CREATE TABLE {table}_old (LIKE {table} INCLUDING ALL) WITH ({STORAGE})")
            cursor.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {table}_old FOR VALUES FROM (MINVALUE) TO ('{_bound(day)}')"
            )


def _make(day: datetime.date) -> None:
    # ATTACH blocks nobody who writes to another partition; CREATE TABLE … PARTITION OF would.
    low, high = _bound(day), _bound(day + _DAY)
    if day in (_days() or ()):
        # Another process was faster.
        return
    with connection.cursor() as cursor:
        if day <= datetime.datetime.now(datetime.UTC).date():
            # Calls of this day go to the default partition now. They wait until their rows have moved.
            cursor.execute(f"LOCK TABLE {', '.join(KEYS)} IN ACCESS EXCLUSIVE MODE")
        for table, key in KEYS.items():
            name = f"{table}_{day:%Y%m%d}"
            cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL) WITH ({STORAGE})")
            cursor.execute(
                f"""
                WITH moved AS (DELETE FROM {table}_default WHERE {key} >= %s AND {key} < %s RETURNING *)
                INSERT INTO {name} SELECT * FROM moved
                """,
                [low, high],
            )
            cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")


def _drop(day: datetime.date, kept: Mapping[str, datetime.datetime]) -> int:
    low, high = _bound(day), _bound(day + _DAY)
    names = {table: f"{table}_{day:%Y%m%d}" for table in KEYS}
    ended = names["taskruns_endedrun"]
    if day not in (_days() or ()):
        # Another process was faster.
        return 0
    with connection.cursor() as cursor:
        # No call is added to this day from here on, so what is not live and not kept now never will be.
        cursor.execute(f"LOCK TABLE {names['taskruns_taskcall']} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("SELECT id FROM taskruns_liverun WHERE id >= %s AND id < %s", [low, high])
        live = {key for (key,) in cursor.fetchall()}
        still = " OR ".join("status = %s AND finished_at >= %s" for _ in kept)
        # Read the day once: it may have millions of runs.
        cursor.execute(
            f"SELECT count(*), coalesce(array_agg(id) FILTER (WHERE {still}), '{{}}') FROM {ended}",
            [value for pair in kept.items() for value in pair],
        )
        count, of_ended = cursor.fetchall()[0]
        carried = [*live.union(of_ended)]
        # From here on every call waits. Whoever reads or writes locks the parent first, so this does, too.
        cursor.execute(f"LOCK TABLE {', '.join(KEYS)} IN ACCESS EXCLUSIVE MODE")
        for table, key in KEYS.items():
            cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {names[table]}")
            cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_old")
            cursor.execute(f"INSERT INTO {table}_old SELECT * FROM {names[table]} WHERE {key} = ANY(%s)", [carried])
            cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {table}_old FOR VALUES FROM (MINVALUE) TO ('{high}')")
            cursor.execute(f"DROP TABLE {names[table]}")
    return int(count) - len(of_ended)


def _promise_bound(day: datetime.date) -> None:
    """Have the partition ``old`` promise that it ends with ``day``, so that ATTACH need not read it."""
    high = _bound(day + _DAY)
    with connection.cursor() as cursor:
        for table, key in KEYS.items():
            old, promise = f"{table}_old", f"{table}_old_bound"
            cursor.execute(f"ALTER TABLE {old} DROP CONSTRAINT IF EXISTS {promise}")
            cursor.execute(f"ALTER TABLE {old} ADD CONSTRAINT {promise} CHECK ({key} < '{high}') NOT VALID")


def _validate_bound() -> None:
    with connection.cursor() as cursor:
        for table in KEYS:
            cursor.execute(f"ALTER TABLE {table}_old VALIDATE CONSTRAINT {table}_old_bound")
