"""The worker's application: ``celery -A tests.celery_suite.worker worker``."""

from tests.celery_suite.apps import build

app = build()
