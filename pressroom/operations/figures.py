"""The dead letters by kind. The cost does not depend on the number of ended runs."""

from __future__ import annotations

import dataclasses

from django.db import connection

from pressroom.monitoring.queue_stats import CAP


@dataclasses.dataclass(frozen=True)
class DeadGroup:
    """The dead letters of one task with one type of error."""

    queue: str
    name: str
    error_type: str
    count: int


def dead_groups() -> list[DeadGroup]:
    """Return the newest CAP dead letters, grouped by task and error, the largest group first."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT queue, name, error_type, count(*) FROM (
                SELECT queue, name, error_type FROM taskruns_endedrun WHERE status = 'dead'
                ORDER BY id DESC LIMIT {CAP}
            ) dead GROUP BY queue, name, error_type ORDER BY count(*) DESC, name, error_type
            """
        )
        return [DeadGroup(*row) for row in cursor.fetchall()]
