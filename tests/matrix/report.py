"""A plugin for pytest that writes, as JSON to ``MATRIX_REPORT``, which versions ran and how many tests ended how."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import celery
import django
import psycopg
import pytest
import redis

OUTCOMES = ("passed", "failed", "error", "skipped")


def versions() -> dict[str, str]:
    """Of what runs, asked from it."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as server:
        [postgres] = server.execute("SHOW server_version").fetchone() or ("",)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        info: Any = client.info("server")
    # Valkey also says which version of Redis it speaks like.
    broker = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    return {
        "Python": platform.python_version(), "Django": django.get_version(), "Celery": celery.__version__,
        "Postgres": postgres.split()[0], "broker": broker,
    }  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # a process of xdist: the one that started it reports
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    counts = {outcome: len(reporter.stats.get(outcome, [])) for outcome in OUTCOMES}
    failed = [report.nodeid for outcome in ("failed", "error") for report in reporter.stats.get(outcome, [])]
    report = {"versions": versions(), "counts": counts, "failed": failed}
    Path(os.environ["MATRIX_REPORT"]).write_text(json.dumps(report))
