"""The Celery application: plain Celery on the outside, the ledger of ``pressroom`` underneath."""

import os

from pressroom.celery_app.app import LedgerCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

app = LedgerCelery("pressroom")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
