"""What the suite's ``conftest.py`` gets besides, in its last line: a worker that is a process of its own.

The suite starts one in a thread of the tests' process; we start a real one. Its check that an application has the
one queue ``celery`` is left out, since ours has the queues of its table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.utils import nodenames

from tests.celery_suite.apps import SYSTEM, install

install()
# What its tests of `inspect` take for the worker's name is that of their own process.
nodenames.anon_nodename = lambda *_: os.environ["SUITE_WORKER"]
OUTCOMES = Path(os.environ["SUITE_OUTCOMES"])
LONGEST_TEST = 120
"""Seconds; the suite gives most of its tests 300, and so long each test of ours that hangs would take."""


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Any, celery_includes: Any, celery_class_tasks: Any, celery_worker_pool: Any
) -> None:
    """The worker runs already; this process has to know the tasks as the suite's worker would."""
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for class_task in celery_class_tasks:
        celery_session_app.register_task(class_task)


@pytest.fixture(autouse=True)
def ZZZZ_set_app_current(celery_app: Any) -> Iterator[None]:  # noqa: N802 - the suite's name
    """As the suite's, without its look at the queues."""
    celery_app.set_current()
    celery_app.set_default()
    yield
    if SYSTEM == "ours":
        from django.db import connection

        from pressroom.models import WAITING, LiveRun
        from pressroom.sql import ends

        # What a test left behind: the suite purges the queue, which the relay would fill again.
        for run_id in LiveRun.objects.filter(status__in=WAITING).values_list("pk", flat=True):
            ends.cancel_waiting(run_id)
        connection.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give no test more than `LONGEST_TEST`."""
    for item in items:
        given = item.get_closest_marker("timeout")
        seconds = (given.args[0] if given.args else given.kwargs["timeout"]) if given else LONGEST_TEST
        item.add_marker(pytest.mark.timeout(min(seconds, LONGEST_TEST)), append=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the outcome of each test, as a line of JSON; of its set-up and tear-down only what did not pass."""
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.removeprefix("t/integration/")
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
        with OUTCOMES.open("a") as file:
            file.write(json.dumps([name, report.outcome, text]) + "\n")
