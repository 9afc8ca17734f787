"""The statements for groups, chords and results that belong to no run of their own."""

from __future__ import annotations

from django.db import connection


def save(group_id: str, structure: str | None) -> None:
    """A group; its structure as JSON where it is known. A structure is never lost to a later None."""
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
    """How many parts the chord's header has. Celery says so before it calls the last of them.

    A frozen chord that is called again has its group again; where its body was called, the count begins anew.
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
    """One part more in the header, added by one that still runs."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskruns_taskgroup SET size = size + 1 WHERE group_id = %s", [group_id])


def count(group_id: str, celery_id: str, position: float, state: str, result: str) -> bool:
    """Count a part; a part counts once. True for the one that makes the header complete: it calls the body.

    The group's row stays locked until the caller's transaction ends, so the last two parts do not miss each other.
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
    """Celery id, state and result (JSON) of a chord's parts, in the header's order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT celery_id, state, result FROM taskruns_chordpart WHERE group_id = %s ORDER BY position, id",
            [group_id],
        )
        return list(cursor.fetchall())


def structure(group_id: str) -> str | None:
    """The group's structure as JSON, where it was saved."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT structure FROM taskruns_taskgroup WHERE group_id = %s", [group_id])
        row = cursor.fetchone()
    return row[0] if row else None


def delete(group_id: str) -> None:
    """Forget a group and its parts."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM taskruns_chordpart WHERE group_id = %s", [group_id])
        cursor.execute("DELETE FROM taskruns_taskgroup WHERE group_id = %s", [group_id])


def store(celery_id: str, state: str, result: str, traceback: str, children: str | None = None) -> None:
    """A result that is not a run's own. That it is revoked says nothing of what has ended."""
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
