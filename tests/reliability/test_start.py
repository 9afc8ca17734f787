"""Started before its schema is there, a process waits for it, and shows that it lives."""

from __future__ import annotations

import re
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from app.accounts.models import User
from app.local.servers import free_port
from app.local.up import web
from app.queues import BY_NAME
from pressroom.models import LiveRun
from tests.support.processes import Stack
from tests.support.waiting import until

REPORTS = apps.is_installed("app.reports")
CELERY = [sys.executable, "-m", "celery", "-A", "app"]
WORKER = [*CELERY, "worker", "-l", "info", "-Q", "emails", "-c", "1"]
COMMANDS = {
    "worker": WORKER,
    "threads": [*WORKER, "-P", "threads"],
    "gevent": [*WORKER, "-P", "gevent"],
    "beat": [*CELERY, "beat", "-l", "info", "--pidfile="],
    "relay": [sys.executable, "manage.py", "relay"],
}


@pytest.mark.parametrize("role", COMMANDS)
def test_waits_for_the_schema_alive_but_not_ready(stack: Stack, tmp_path: Path, role: str) -> None:
    alive = tmp_path / "alive"
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("taskruns", "0004_autovacuum")
    try:
        stack.start(COMMANDS[role], "waiting: migration taskruns.0004_autovacuum not applied", ALIVE_FILE=str(alive))
        assert alive.read_text() == "starting\n"
        before = alive.stat().st_mtime_ns
        until(lambda: alive.stat().st_mtime_ns > before, "a sign of life while it waits")
    finally:
        recorder.record_applied("taskruns", "0004_autovacuum")
    until(lambda: alive.read_text() == "ready\n", "it begins")


@pytest.mark.parametrize("role", COMMANDS)
def test_what_waits_ends_when_told(stack: Stack, role: str) -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("taskruns", "0004_autovacuum")
    try:
        process = stack.start(COMMANDS[role], "waiting: migration")
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 20, "less than any grace period"
    finally:
        recorder.record_applied("taskruns", "0004_autovacuum")


def test_helm_test_finds_what_does_not_work(stack: Stack) -> None:
    """It needs web, relay and workers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stack.start(web(port), "Booting worker")
    with pytest.raises(CommandError, match="prune is still queued after 2 s: see the logs of relay"):
        call_command("smoke_test", url, timeout=2.0)
    with pytest.raises(CommandError, match=r"http://127\.0\.0\.1:1: "):
        call_command("smoke_test", "http://127.0.0.1:1")
    LiveRun.objects.all().delete()
    stack.relay()
    stack.worker("-Q", ",".join(BY_NAME))
    told = StringIO()
    call_command("smoke_test", url, stdout=told)
    expected = ["a task, run by a worker", *([r"a report of \d{4,} bytes, made by a worker"] if REPORTS else [])]
    assert re.fullmatch("".join(rf"{line}, in .* s: ok\n" for line in expected), told.getvalue())
    left = [User, *(apps.get_app_config("reports").get_models() if REPORTS else [])]
    assert not any(model._default_manager.exists() for model in left)
