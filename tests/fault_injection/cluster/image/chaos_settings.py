"""The project's settings, and what the oracle needs: its tasks, and a way to call them."""

from app.settings import *  # noqa: F403

CELERY_IMPORTS = ("tests.oracle.tasks", "chaos_tasks")
ROOT_URLCONF = "chaos_urls"
