"""The application of the suite's tests and of the worker that runs their tasks: Celery's, or on the ledger.

The suite builds each of its applications with ``celery.contrib.testing.app.TestApp``, which makes a ``Celery``. For
ours `install` puts the ledger's class there; nothing else of the suite's own configuration changes.
"""

from __future__ import annotations

import os
from typing import Any

from celery.contrib.testing import app as testing

SYSTEM = os.environ.get("SUITE_SYSTEM", "stock")
"""``stock`` or ``ours``."""
TEST_BACKEND = os.environ.get("TEST_BACKEND", "")
RESULTS = os.environ.get("SUITE_RESULTS", TEST_BACKEND)
"""Where results are in truth; the setting names a Redis all the same, so that no test is skipped for that alone."""


def install() -> None:
    """Have the suite build its applications on the ledger, if those are what is tried."""
    if SYSTEM == "stock":
        return
    import django
    from django.conf import settings

    from pressroom.celery_app.app import LedgerCelery

    django.setup()
    # The suite has a task whose limits contradict each other, to see that the call is refused.
    settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "pressroom.E007"]
    prefix = "CELERY_"
    ours = {name.removeprefix(prefix).lower(): getattr(settings, name) for name in dir(settings) if prefix in name}

    class SuiteCelery(LedgerCelery):
        """The ledger's application, with the settings of this project under those of the suite."""

        def add_defaults(self, fun: Any) -> Any:
            if RESULTS != TEST_BACKEND:
                self.backend_cls = RESULTS
            return super().add_defaults(ours | dict(fun))

    testing.Celery = SuiteCelery


def build() -> Any:
    """The application of the worker, configured as the suite configures its own."""
    install()
    app = testing.TestApp(
        config={
            "broker_url": os.environ["TEST_BROKER"],
            "result_backend": TEST_BACKEND,
            "result_extended": True,
            "task_create_missing_queues": False,
            "worker_hijack_root_logger": True,
            "broker_connection_retry_on_startup": True,
        },
        enable_logging=True,
        set_as_current=True,
    )
    app.set_default()
    from t.integration import tasks

    app.register_task(tasks.ClassBasedAutoRetryTask)
    return app
