"""The project's settings, and what the oracle needs: its tasks, and a way to call them."""

from app.settings import *  # noqa: F403

CELERY_IMPORTS = ("tests.fault_injection.local.tasks", "chaos_tasks")
ROOT_URLCONF = "chaos_urls"
