"""Since when a service is away, as the relays see it."""

from __future__ import annotations

from django.db import connection


def begin(service: str, seconds: float) -> None:
    """Record that a service has been away for so many seconds. An earlier record stays."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO taskruns_outage (service, since) VALUES (%s, clock_timestamp() - make_interval(secs => %s))
            ON CONFLICT (service) DO NOTHING
            """,
            [service, seconds],
        )


def over(service: str) -> None:
    """Record that a service is back."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM taskruns_outage WHERE service = %s", [service])
