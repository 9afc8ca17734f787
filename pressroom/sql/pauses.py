"""The statements of pauses. The relay keeps to them in `pressroom.sql.dispatch.take_due`; see docs/decisions/0028."""

from __future__ import annotations

from typing import Any

from django.db import connection

from pressroom.sql import limits
from pressroom.sql.runs import WAITING

LOCK = 482804169573
"""The key of the lock with which the relay, in ``take_due.sql``, and whoever pauses exclude each other."""


def pause(kind: str, name: str, user_id: Any = None, lane: str = "") -> bool:
    """Pause the queue or the task ``name`` (``kind`` is ``queue`` or ``task``). Returns False if it is paused already.

    With the kind ``key``, pauses the runs of the task that wait in ``lane``. Takes back what is published. Needs a
    transaction, which should end soon: the relay waits for it.
    """
    # The runs of a key wait in their lane, as those that wait for its limit.
    where, held, given = {
        "queue": ("queue = %s", 3, name),
        "task": ("name = %s", 3, name),
        "key": ("held IS NULL AND lane = %s", 1, lane),
    }[kind]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        cursor.execute(
            """
            INSERT INTO taskruns_pause (kind, name, lane, since, by_id) VALUES (%s, %s, %s, clock_timestamp(), %s)
            ON CONFLICT DO NOTHING
            """,
            [kind, name, lane, user_id],
        )
        if not cursor.rowcount:
            return False
        cursor.execute(
            f"""
            UPDATE taskruns_liverun t SET held = {held}, published_at = NULL
            FROM (
                SELECT id FROM taskruns_liverun
                WHERE status IN {WAITING} AND published_at IS NOT NULL AND {where} ORDER BY id FOR UPDATE
            ) out WHERE t.id = out.id
            """,
            [given],
        )
    return True


def resume(kind: str, name: str, lane: str = "") -> bool:
    """End a pause. Returns False if there is none. The relay releases what was held for it. Needs a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM taskruns_pause WHERE kind = %s AND name = %s AND lane = %s", [kind, name, lane])
        if not cursor.rowcount:
            return False
        if lane:
            limits.look_again(cursor, lane)
    return True
