"""docs/your-app.md, carried out from the top in a copy of the project: each block does what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.servers import PROJECT
from tests.support.plugin import settings_names

PAGE = PROJECT / "docs" / "your-app.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHOLE_FILE = re.compile(r"# ([\w.-]+(?:/[\w.-]+)+)\n")


def blocks() -> Iterator[tuple[str, str]]:
    """Kind and text of each block of the page."""
    yield from BLOCK.findall(PAGE.read_text())


class Copy:
    """The project as git has it, with the tools and the virtual environment that are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
        for name in filter(None, listed.stdout.split("\0")):
            # What was deleted and not yet committed is listed, too.
            if (source := PROJECT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name, follow_symlinks=False)
        for name in (".venv", ".tools"):
            (folder / name).symlink_to(PROJECT / name, target_is_directory=True)
        ours = {*settings_names(), "LOCAL", "VAR_DIR", "STATIC_ROOT", "DJANGO_SETTINGS_MODULE", "MAKEFLAGS", "CI"}
        self.env = {
            name: value for name, value in os.environ.items() if name not in ours and not name.startswith("PYTEST_")
        }

    def do(self, kind: str, text: str) -> None:
        """Carry out a block. Raises AssertionError where it does not work."""
        if kind == "console":
            for command in re.findall(r"^\$ (.+)$", text, re.MULTILINE):
                self.run(["bash", "-euc", command])
        elif kind == "diff":
            self.run(["git", "apply", "--recount", "-"], text)
        elif (path := WHOLE_FILE.match(text)) is not None:
            (self.folder / path[1]).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path[1]).write_text(text[path.end() :])
        else:
            raise AssertionError(f"a block that says neither what to do nor where it goes:\n{text}")

    def run(self, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}\n{text}{done.stdout[-20_000:]}"


@pytest.mark.timeout(1200)
def test_the_page_from_the_top(tmp_path: Path) -> None:
    """Its last commands are `make lint` and `make test-unit`."""
    copy = Copy(tmp_path)
    done = [kind for kind, text in blocks() if copy.do(kind, text) is None]
    assert len(done) > 20
    for app in ("blog", "reports", "payments", "integrations", "files"):
        assert not (tmp_path / "app" / app).exists()
    assert "app.invoices" in (tmp_path / "app" / "settings.py").read_text()
    # Of `make test`'s others, what speaks of queues and of the apps' figures.
    copy.run([".venv/bin/python", "-m", "pytest", "-q", "tests/chart/test_tiltfile.py", "tests/alerts"])


APPS = {
    "payments": (), "integrations": (), "reports": (), "blog": ("reports",), "files": ("reports", "blog"),
}  # fmt: skip
"""What may go by itself, and what reads of it and so goes with it."""


@pytest.mark.parametrize("name", APPS)
def test_one_app_may_go_by_itself(tmp_path: Path, name: str) -> None:
    """Its folder, its tests and its line: the rest is whole."""
    copy = Copy(tmp_path)
    settings = tmp_path / "app" / "settings.py"
    for app in (name, *APPS[name]):
        for folder in (tmp_path / "app" / app, *tmp_path.glob(f"tests/*/{app}")):
            shutil.rmtree(folder)
        text = settings.read_text()
        assert text.count(f'    "app.{app}",\n') == 1
        settings.write_text(text.replace(f'    "app.{app}",\n', ""))
    python = ".venv/bin/python"
    copy.env["LOCAL"] = "1"
    copy.run([python, "manage.py", "check"])
    copy.run([".venv/bin/lint-imports", "--no-logo"])
    copy.run([python, "-m", "pytest", "-q", "--collect-only", "tests/unit", "tests/contract"])
