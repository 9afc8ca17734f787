"""gunicorn's own log lines in the format of all others: ``gunicorn --logger-class app.gunicorn.Logger``."""

from __future__ import annotations

import logging.config
from typing import Any

from django.conf import settings
from gunicorn.glogging import Logger as GunicornLogger


class Logger(GunicornLogger):  # type: ignore[misc]  # without types
    """gunicorn's, without handlers of its own: what it says goes where the settings say."""

    def setup(self, cfg: Any) -> None:
        """Called in the master at its start, before any worker has set Django up."""
        super().setup(cfg)
        logging.config.dictConfig(settings.LOGGING)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True
