"""Celery's documented behaviour under stock Celery and under ours: equal, but for what is listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.canvas import scenarios
from tests.support.processes import ROOT, Stack, environment

DIFFERENT_ON_PURPOSE: dict[str, str] = {}
"""Scenario → why; `docs/celery.md` tells it to users."""


pytestmark = pytest.mark.xdist_group("canvas")


@pytest.fixture(scope="module")
def outcomes(shared_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Outcomes by kind and scenario: stock Celery's, and ours with results in Postgres and in Redis."""
    celery = [sys.executable, "-m", "celery"]
    worker = ["worker", "-l", "info", "--concurrency=6", "--without-gossip", "--without-mingle"]
    shared_stack.start([*celery, "-A", "tests.canvas.stock", *worker, "-n", "stock@%h"], "ready.")
    redis = {"CELERY_RESULT_BACKEND": f"{os.environ['REDIS_URL']}/1"}

    def run(kind: str, **extra: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.canvas.run", kind, str(tmp_path_factory.mktemp(kind))]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(**extra), capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return outcome

    def ours(**extra: str) -> dict[str, Any]:
        command = [*celery, "-A", "app", *worker, "--include=tests.canvas.ours"]
        processes = [shared_stack.relay(**extra), shared_stack.start(command, "ready.", **extra)]
        try:
            return run("ours", **extra)
        finally:
            for process in processes:
                process.stop()

    with ThreadPoolExecutor(1) as pool:
        stock = pool.submit(run, "stock")
        found = {"postgres": ours(), "redis": ours(**redis)}
        return {"stock": stock.result(), **found}


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("results", ["postgres", "redis"])
@pytest.mark.parametrize("name", list(scenarios.ALL))
def test_scenario(outcomes: dict[str, dict[str, Any]], name: str, results: str) -> None:
    stock, ours = outcomes["stock"][name], outcomes[results][name]
    # That both hang is no likeness.
    assert not str(stock).startswith("raised AssertionError"), stock
    if name in DIFFERENT_ON_PURPOSE:
        assert ours != stock, "no longer different: take it off the list"
    else:
        assert ours == stock
