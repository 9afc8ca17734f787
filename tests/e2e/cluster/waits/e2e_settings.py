"""The project's settings, and the tasks of the end-to-end runs."""

from app.settings import *  # noqa: F403

CELERY_IMPORTS = ("e2e_tasks",)
