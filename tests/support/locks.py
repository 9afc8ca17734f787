"""Who waits for a lock."""

from django.db import connection


def waiting_for_locks() -> int:
    """Return how many clients of this test's database wait for a lock. Other tests use databases of the same server."""
    with connection.cursor() as cursor:
        # Else a transaction sees what it saw at its first look.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("""
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND wait_event_type = 'Lock'
        """)
        return int(cursor.fetchone()[0])
