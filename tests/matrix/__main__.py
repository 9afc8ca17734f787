"""``python -m tests.matrix``: some of the tests on each combination of versions that this machine can hold.

Each cell has a virtual environment of its own with what ``uv.lock`` has, except for the packages that the cell names.
Prints a table with the versions that really ran. Returns 1 if a cell fails, or if a cell that the command line names
cannot run here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from app.local.running import settings_names
from app.local.servers import PROJECT
from tests.matrix import machine
from tests.matrix.cells import CELLS, SUBSET, Cell, matches, requirements

FOLDER = PROJECT / ".tools" / "matrix"
UV = PROJECT / ".tools" / "bin" / "uv"
PAGE = PROJECT / "docs" / "versions.md"
BEGIN, END = "<!-- written by make test-matrix -->\n", "<!-- end -->\n"
LONGEST_RUN = 4 * 3600
"""Seconds for one cell: a hang guard."""
COLUMNS = ("Python", "Django", "Celery", "Postgres", "broker")


@dataclass
class Outcome:
    """How a cell ended. ``word`` is passed, failed or not here."""

    cell: Cell
    word: str
    detail: str
    versions: dict[str, str] = field(default_factory=dict)

    def row(self) -> str:
        # What did not run is named as the cell wants it.
        versions = [self.versions.get(name, self.cell.wanted()[name]) for name in COLUMNS]
        cells = [f"`{self.cell.name}`", *versions, f"{self.word}: {self.detail}", f"{datetime.now(UTC):%Y-%m-%d}"]
        return f"| {' | '.join(cells)} |"


def table(rows: list[str]) -> str:
    """Rows of outcomes with their head, in Markdown."""
    head = ["cell", "Python", "Django", "Celery", "Postgres", "Redis or Valkey", "tests", "on"]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *rows]) + "\n"


def environment_for(cell: Cell, python: Path) -> Path:
    """The interpreter of the cell's virtual environment. Raises CalledProcessError if its packages cannot be had."""
    folder = FOLDER / f"python{cell.python}-django{cell.django}-celery{cell.celery}"
    export = [
        UV, "export", "--quiet", "--frozen", "--no-hashes", "--no-header", "--no-annotate", "--no-emit-workspace",
        "--extra=local", "--extra=tracing", "--group=dev",
    ]  # fmt: skip
    locked = subprocess.run(export, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    wanted = requirements(locked, cell.packages)
    digest = hashlib.sha256(f"{python.resolve()}\n{wanted}".encode()).hexdigest()
    made = folder / "made-of"
    if not made.exists() or made.read_text() != digest:
        subprocess.run([UV, "venv", "--quiet", "--clear", f"--python={python}", folder], cwd=FOLDER, check=True)
        (folder / "requirements.txt").write_text(wanted)
        overrides = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["uv"]["override-dependencies"]
        (folder / "overrides.txt").write_text("\n".join(overrides))
        install = [
            # Without the project's configuration, which holds Django to the version of the lock.
            UV, "pip", "install", "--quiet", "--no-config", f"--python={folder / 'bin' / 'python'}",
            "-r", folder / "requirements.txt", "--override", folder / "overrides.txt",
        ]  # fmt: skip
        subprocess.run(install, cwd=FOLDER, capture_output=True, text=True, check=True)
        made.write_text(digest)
    return folder / "bin" / "python"


def run(cell: Cell, jobs: int, arguments: list[str]) -> Outcome:
    """Run the tests on a cell."""
    python, postgres, broker = (
        machine.interpreter(cell.python), machine.postgres(cell.postgres), machine.broker(cell.broker),
    )  # fmt: skip
    if python is None:
        return Outcome(cell, "not here", f"no Python {cell.python}")
    if postgres is None:
        return Outcome(cell, "not here", f"no PostgreSQL {cell.postgres}")
    if broker is None:
        return Outcome(cell, "not here", f"no {cell.broker}")
    try:
        interpreter = environment_for(cell, python)
    except subprocess.CalledProcessError as error:
        return Outcome(cell, "failed", f"its packages do not go together: {last_line(error.stderr or '')}")
    log, report = FOLDER / f"{cell.name}.log", FOLDER / f"{cell.name}.json"
    report.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in settings_names() | {"CI"}}
    environment |= {"TEST_POSTGRES": postgres, "TEST_REDIS": broker, "MATRIX_REPORT": str(report)}
    command = [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.matrix.report"]
    command += ["-n", str(jobs), "--dist=loadgroup", *(arguments or SUBSET)]
    with log.open("wb") as output:
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=output, timeout=LONGEST_RUN, check=False
        )
    return judge(cell, done.returncode, report, log)


def judge(cell: Cell, code: int, report: Path, log: Path) -> Outcome:
    """What pytest's exit code and the plugin's report say."""
    if not report.exists():
        return Outcome(cell, "failed", f"pytest ended with {code}: {last_line(log.read_text(errors='replace'))}")
    said = json.loads(report.read_text())
    versions, counts = said["versions"], said["counts"]
    others = [name for name, wanted in cell.wanted().items() if not matches(wanted, versions[name])]
    numbers = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    if others:
        detail = ", ".join(f"{name} {cell.wanted()[name]} was wanted" for name in others)
        return Outcome(cell, "failed", detail, versions)
    if code or not counts["passed"]:
        return Outcome(cell, "failed", numbers or "no test ran", versions)
    return Outcome(cell, "passed", numbers.replace(" passed", "", 1), versions)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing was printed")


def write(page: str, outcomes: list[Outcome]) -> str:
    """The page with the rows of these outcomes. Those of cells that were not tried stay as they were."""
    head, _, rest = page.partition(BEGIN)
    old, _, tail = rest.partition(END)
    rows = {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` \|.*$", old, re.MULTILINE)}
    rows |= {outcome.cell.name: outcome.row() for outcome in outcomes}
    known = [rows[cell.name] for cell in CELLS if cell.name in rows]
    return f"{head}{BEGIN}\n{table(known)}\n{END}{tail}"


def main() -> int:
    """Do what the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Run some of the tests on combinations of versions.")
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(cell.name for cell in CELLS))
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--tests", nargs="+", default=[], help="these instead of the usual ones")
    parser.add_argument("--write", action="store_true", help="put the table into docs/versions.md")
    given = parser.parse_args()
    unknown = set(given.cells) - {cell.name for cell in CELLS}
    if unknown:
        parser.error(f"there is no cell {', '.join(sorted(unknown))}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for cell in [cell for cell in CELLS if not given.cells or cell.name in given.cells]:
        outcome = run(cell, given.jobs, given.tests)
        print(outcome.row(), flush=True)
        if outcome.word == "failed" and (FOLDER / f"{cell.name}.log").exists():
            print(f"  {FOLDER / cell.name}.log", flush=True)
        outcomes.append(outcome)
    print("\n" + table([outcome.row() for outcome in outcomes]))
    if given.write:
        PAGE.write_text(write(PAGE.read_text(), outcomes))
    bad = {"failed", "not here"} if given.cells else {"failed"}
    return int(any(outcome.word in bad for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
