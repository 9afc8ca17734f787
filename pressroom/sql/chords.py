"""The statements for groups, for chords and for results that belong to no run."""

from __future__ import annotations

from django.db import connection


def save(group_id: str, structure: str | None) -> None:
    """Save a group with its structure (JSON), or None if it is unknown. None never replaces a saved structure."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO taskruns_taskgroup (group_id, structure, done, fired, created_at)
            VALUES (%s, %s, 0, false, clock_timestamp())
            ON CONFLICT (group_id) DO UPDATE
            SET structure = coalesce(excluded.structure, taskruns_taskgroup.structure)
            """,
            [group_id, structure],
        )


def set_size(group_id: str, size: int) -> None:
    """Save how many parts the chord's header has. Celery calls this before it calls the last of them.

    A frozen chord that is called again uses the same group id. If its body was called before, the count starts anew.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM taskruns_chordpart WHERE group_id = %s
                AND EXISTS (SELECT FROM taskruns_taskgroup WHERE group_id = %s AND fired)
            """,
            [group_id, group_id],
        )
        cursor.execute(
            """
            INSERT INTO taskruns_taskgroup AS old (group_id, size, done, fired, created_at)
            VALUES (%s, %s, 0, false, clock_timestamp())
            ON CONFLICT (group_id) DO UPDATE SET size = excluded.size, fired = false,
                done = CASE WHEN old.fired THEN 0 ELSE old.done END
            """,
            [group_id, size],
        )


def enlarge(group_id: str) -> None:
    """Add one part to the header. A part that still runs added it."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskruns_taskgroup SET size = size + 1 WHERE group_id = %s", [group_id])


def count(group_id: str, celery_id: str, position: float, state: str, result: str) -> bool:
    """Count a part of the header, each part once. Returns True if it completes the header: the caller calls the body.

    The group's row stays locked until the caller's transaction ends, so that two last parts cannot overlook each other.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO taskruns_chordpart (group_id, celery_id, position, state, result)
            VALUES (%s, %s, %s, %s, %s) ON CONFLICT (group_id, celery_id) DO NOTHING
            """,
            [group_id, celery_id, position, state, result],
        )
        if not cursor.rowcount:
            return False
        cursor.execute(
            """
            UPDATE taskruns_taskgroup SET done = done + 1, fired = fired OR done + 1 >= size
            WHERE group_id = %s AND NOT fired RETURNING fired
            """,
            [group_id],
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def parts(group_id: str) -> list[tuple[str, str, str]]:
    """Return Celery id, state and result (JSON) of each counted part of a chord, in the header's order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT celery_id, state, result FROM taskruns_chordpart WHERE group_id = %s ORDER BY position, id",
            [group_id],
        )
        return list(cursor.fetchall())


def structure(group_id: str) -> str | None:
    """Return the group's structure as JSON, or None if none was saved."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT structure FROM taskruns_taskgroup WHERE group_id = %s", [group_id])
        row = cursor.fetchone()
    return row[0] if row else None


def delete(group_id: str) -> None:
    """Delete a group and its parts."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM taskruns_chordpart WHERE group_id = %s", [group_id])
        cursor.execute("DELETE FROM taskruns_taskgroup WHERE group_id = %s", [group_id])


def store(celery_id: str, state: str, result: str, traceback: str, children: str | None = None) -> None:
    """Store a result that is not a run's own. REVOKED never replaces a success or a failure."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO taskruns_storedresult AS old (celery_id, state, result, traceback, children, stored_at)
            VALUES (%s, %s, %s, %s, %s, clock_timestamp())
            ON CONFLICT (celery_id) DO UPDATE SET state = excluded.state, result = excluded.result,
                traceback = excluded.traceback, children = excluded.children, stored_at = excluded.stored_at
            WHERE excluded.state <> 'REVOKED' OR old.state NOT IN ('SUCCESS', 'FAILURE')
            """,
            [celery_id, state, result, traceback, children],
        )
