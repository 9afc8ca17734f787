"""``celery -A app beat`` that can be stopped at any moment."""

from __future__ import annotations

import signal
from typing import Any

from celery.apps.beat import Beat

# The stubs do not know it.
_Beat: Any = Beat


class LedgerBeat(_Beat):  # type: ignore[misc]  # see _Beat
    """Celery's, which at SIGTERM saves no schedule: each tick has written its own row.

    Celery's handler would open the schedule to save it; while that is just being read, by the same connection, it would
    wait for itself.
    """

    def install_sync_handler(self, service: Any) -> None:
        def stop(*_: object) -> None:
            # For when the exception is lost: Django's rollback, refused amid a statement, puts its own in its place.
            service.stop()
            raise SystemExit(0)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
