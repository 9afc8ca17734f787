"""The runner of Celery's suite notices a difference, one that is listed and is none, and says so in its last line."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.celery_suite.outcomes import FAILED, PASSED, RESULTS, SKIPPED, Listed, Outcome, compare, listed_in
from tests.support.processes import ROOT

CONFTEST = """
    import os

    import pytest
    from celery.contrib.pytest import celery_app, celery_session_app

    @pytest.fixture(scope="session")
    def celery_config():
        return {"broker_url": os.environ["TEST_BROKER"], "result_backend": os.environ["TEST_BACKEND"]}

    @pytest.fixture(scope="session")
    def celery_includes():
        return {"t.integration.tasks"}
"""
TASKS = """
    from celery import Task, shared_task

    @shared_task
    def add(x, y):
        return x + y

    class ClassBasedAutoRetryTask(Task):
        name = "a_class"
"""
TESTS = """
    import os

    from celery import Celery

    from .tasks import add

    def test_the_worker_ends(celery_app):
        celery_app.control.shutdown(destination=[os.environ["SUITE_WORKER"]])

    def test_a_task(celery_app, celery_session_worker):
        assert add.delay(1, 2).get(timeout=60) == 3

    def test_only_stock_passes(celery_app):
        assert type(celery_app) is Celery

    def test_none_passes():
        assert False
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of four tests in the place of Celery's."""
    folder = tmp_path / "t" / "integration"
    folder.mkdir(parents=True)
    for name, text in (("conftest", CONFTEST), ("tasks", TASKS), ("test_small", TESTS)):
        (folder / f"{name}.py").write_text(dedent(text))
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    return folder.parent


@pytest.mark.timeout(1200)
def test_a_difference_that_is_not_listed_is_noticed(suite: Path, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("| `test_small.py::test_a_task` | both | it is said to differ |\n")
    command = [sys.executable, "-m", "tests.celery_suite", "--suite", str(suite), "--document", str(document)]
    done = subprocess.run(
        [*command, "--results", "Postgres"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1000
    )
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert "Postgres: test_small.py::test_only_stock_passes failed, and is not listed" in lines[0]
    assert lines[1] == "Postgres: `test_small.py::test_a_task` is listed, but no test of that name differs"
    # Those that follow find a worker all the same.
    assert "Postgres: the worker ended 1 times" in lines
    assert "stock: the worker ended 1 times, and was started again" in lines
    assert lines[-1] == (
        "3 passed by stock; of those pass with ours: 2 with results in Postgres; 2 not as docs/celery.md says"
    )


def test_differences_are_held_against_the_list() -> None:
    stock = {"test_a.py::a": Outcome(PASSED), "test_a.py::b[1]": Outcome(PASSED), "test_a.py::c": Outcome(FAILED)}
    ours = {
        "Postgres": {"test_a.py::a": Outcome(PASSED), "test_a.py::b[1]": Outcome(SKIPPED, "why")},
        # One that did not run has not passed.
        "Redis": {"test_a.py::a": Outcome(PASSED)},
    }
    wrong, lines = compare(stock, ours, [Listed("test_a.py::b[*]", RESULTS, "so it is")])
    assert wrong == []
    assert lines[-1] == (
        "2 passed by stock; of those pass with ours: 1 with results in Postgres, 1 with results in Redis; "
        "each difference is in docs/celery.md"
    )
    wrong, _ = compare(
        stock,
        ours,
        [Listed("test_a.py::b[*]", ("Redis",), "there"), Listed("*::a", RESULTS, "no"), Listed("*::c", RESULTS, "-")],
    )
    assert [line.partition(" ")[0] for line in wrong] == ["Postgres:", "Postgres:", "Redis:"]


def test_the_document_lists_each_difference_with_its_reason() -> None:
    rows = listed_in((ROOT / "docs" / "celery.md").read_text())
    assert rows
    assert len({(row.test, row.results) for row in rows}) == len(rows)
    assert all(row.reason.strip() for row in rows)
