"""Cut rows into ranges of keys, so that each range can be a task of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import connection
from django.db.models import QuerySet


class KeyRange(NamedTuple):
    """The rows with keys from ``first`` to ``last``, of which there were ``count`` when they were cut."""

    first: int
    last: int
    count: int  # type: ignore[assignment]  # hides the method of tuples, which nobody calls


def key_ranges(rows: QuerySet[Any], key: str, *, after: int, size: int, most: int) -> list[KeyRange]:
    """Return up to ``most`` ranges of ``size`` rows each, in the order of the integer ``key``, beyond ``after``.

    Only the last range may be smaller. Gaps between keys make no range smaller. Postgres counts, so this costs memory
    for the ranges alone. No more rows follow if fewer than ``most`` ranges are returned.
    """
    if most < 1:
        return []
    keys = rows.filter(**{f"{key}__gt": after}).order_by(key).values_list(key)[: size * most]
    statement, values = keys.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT min(key), max(key), count(*) FROM (
                SELECT key, (row_number() OVER (ORDER BY key) - 1) / %s AS part FROM ({statement}) AS keys (key)
            ) AS numbered GROUP BY part ORDER BY part
            """,
            [size, *values],
        )
        return [KeyRange(*row) for row in cursor.fetchall()]
