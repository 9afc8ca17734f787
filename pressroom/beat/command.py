"""``celery -A app beat``, which can be stopped at any moment."""

from __future__ import annotations

import signal
from typing import Any

from celery.apps.beat import Beat

from pressroom.checks import refuse_misconfiguration

# The type stubs do not include it.
_Beat: Any = Beat


class LedgerBeat(_Beat):  # type: ignore[misc]  # see _Beat
    """Celery's beat, which does not save the schedule at SIGTERM, because each tick has written its own row.

    Celery's handler opens the schedule to save it. If the signal arrives while the same connection is reading the
    schedule, the handler waits for itself.
    """

    def setup_logging(self, colorize: bool | None = None) -> None:
        """As Celery's, after a look at the settings.

        Celery's signal beat_init is sent only after the scheduler has waited for the database. And a receiver of its
        signal setup_logging would keep it from configuring any logs.
        """
        refuse_misconfiguration()
        super().setup_logging(colorize=colorize)

    def install_sync_handler(self, service: Any) -> None:
        def stop(*_: object) -> None:
            # SystemExit can be lost: Django's rollback, refused in the middle of a statement, raises its own exception
            # in its place. The service then stops at its next look.
            service.stop()
            raise SystemExit(0)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
