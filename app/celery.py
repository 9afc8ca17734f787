"""The Celery application: plain Celery on the outside, the ledger of ``app.taskruns`` underneath."""

import os

from app.taskruns.celery import LedgerCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

app = LedgerCelery("pressroom")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
