"""``celery -A app beat``, which can be stopped at any moment."""

from __future__ import annotations

import signal
from typing import Any

from celery.apps.beat import Beat

# The type stubs do not include it.
_Beat: Any = Beat


class LedgerBeat(_Beat):  # type: ignore[misc]  # see _Beat
    """Celery's beat, which does not save the schedule at SIGTERM, because each tick has written its own row.

    Celery's handler opens the schedule to save it. If the signal arrives while the same connection is reading the
    schedule, the handler waits for itself.
    """

    def install_sync_handler(self, service: Any) -> None:
        def stop(*_: object) -> None:
            # SystemExit can be lost: Django's rollback, refused in the middle of a statement, raises its own exception
            # in its place. The service then stops at its next look.
            service.stop()
            raise SystemExit(0)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
