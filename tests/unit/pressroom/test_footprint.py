"""What a worker does not load before a task needs it: it costs each of its processes memory, and its start time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from app.local.servers import PROJECT

WORKER = """
import sys
import celery.apps.worker, celery.concurrency.prefork
import app.celery
assert "pressroom.worker.bootstep" not in sys.modules  # only workers load it
import pressroom.worker.bootstep
from app.celery import app
app.loader.import_default_modules()
app.finalize()
assert any(name.startswith("app.accounts") for name in app.tasks)
print(*sys.modules)
"""
HEAVY = {
    "PIL", "anymail", "app.urls", "boto3", "botocore", "drf_spectacular.openapi", "httpx", "opentelemetry", "reportlab",
    "requests", "rest_framework.serializers", "sentry_sdk", "slack_sdk", "stripe", "unittest",
}  # fmt: skip


def test_a_worker_loads_what_tasks_need_with_the_task() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & HEAVY == set()


ADMIN = """
import django
django.setup()
from django.contrib import admin
from django.core import checks
from app.accounts.models import User
assert not admin.site.is_registered(User)
checks.run_checks(tags=["admin"])
assert admin.site.is_registered(User)
"""


def test_the_admins_pages_are_there_when_they_are_checked() -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "app.settings"}
    subprocess.run([sys.executable, "-c", ADMIN], cwd=PROJECT, env=os.environ | settings, check=True)


SHARE = """
import gc, django
django.setup()
from django.db import connection
from pressroom.worker.memory import share
share()
frozen = gc.get_freeze_count()
assert frozen > 50_000, frozen
assert connection.connection is None
kept = [[] for _ in range(10_000)]
share()
assert gc.get_freeze_count() <= frozen
"""


@pytest.mark.parametrize("database", [None, "postgres://nobody@127.0.0.1:1/nothing"], ids=["there", "away"])
def test_memory_is_made_ready_to_be_shared_once(database: str | None) -> None:
    """Without a connection that a child would take over, and whether there is a database or not."""
    given = {"DJANGO_SETTINGS_MODULE": "app.settings"} | ({"DATABASE_URL": database} if database else {})
    subprocess.run([sys.executable, "-c", SHARE], cwd=PROJECT, env=os.environ | given, check=True)
