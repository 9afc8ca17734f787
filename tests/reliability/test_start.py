"""Started before its schema is there, a process waits for it, and shows that it lives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tests.processes import Stack
from tests.waiting import until

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


def test_a_relay_that_waits_ends_when_told(stack: Stack) -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("taskruns", "0004_autovacuum")
    try:
        assert stack.start(COMMANDS["relay"], "waiting: migration").stop() == 0
    finally:
        recorder.record_applied("taskruns", "0004_autovacuum")
