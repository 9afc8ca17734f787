"""The Celery application: plain Celery on the outside, the ledger of ``pressroom`` underneath."""

import os
from typing import Any

from celery.signals import celeryd_after_setup

from app.queues import BULK
from pressroom.celery_app.app import LedgerCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

app = LedgerCelery("pressroom")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_after_setup.connect
def load_before_fork(instance: Any, **_: Any) -> None:
    """Load the site's routes, for the links in mails, once for all slots of a worker for bulk mail.

    Otherwise each slot takes a second for it at its first chunk, and memory of its own.
    """
    from django.urls import get_resolver  # here, because the settings are not loaded when this file is

    if BULK in instance.app.amqp.queues.consume_from:
        _ = get_resolver().reverse_dict
