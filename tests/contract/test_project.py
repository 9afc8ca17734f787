"""What the README says is so, and what the Makefile promises is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plugin import StrayConnection, settings_names

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"


def documented_names() -> set[str]:
    """The first column of the README's table of variables."""
    section = README.read_text().partition("## Settings")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_variable_that_is_read_stands_in_the_readme_and_no_other() -> None:
    assert "DATABASE_URL" in settings_names()
    assert documented_names() == settings_names()


def test_settings_read_the_environment_in_no_other_way() -> None:
    assert "os.environ" not in (ROOT / "app" / "settings.py").read_text()


RULES = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TARGETS = sorted(RULES - {"install-local"})  # a part of `make up`


@pytest.mark.parametrize("target", TARGETS)
def test_make_help_tells_of_each_target(target: str) -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(rf"^  make {target} +\S", told.stdout, re.MULTILINE)


def test_the_readme_names_the_commands_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("make lint", "make verify", "make test"):
        assert re.search(rf"^{command}\b", ci, re.MULTILINE)
        assert f"`{command}`" in README.read_text()


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "http://press.example/"])
def test_no_test_reaches_another_machine(url: str) -> None:
    import urllib.request

    with pytest.raises(StrayConnection):
        urllib.request.urlopen(url, timeout=1)


@pytest.mark.slow
@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skipped_test_fails_ci(tmp_path: Path, ci: str, code: int) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('not today')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "pyproject.toml", "--rootdir=.", tmp_path],
        cwd=ROOT, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert "not today" in done.stdout


def test_each_check_has_a_number_of_its_own() -> None:
    numbers = [
        number
        for path in (ROOT / "app").rglob("checks*.py")
        for number in re.findall(r'id="(pressroom\.[EW]\d+)"', path.read_text())
    ]
    assert len(numbers) > 20
    assert len(set(numbers)) == len(numbers)


def test_the_lock_names_public_hosts_alone() -> None:
    hosts = set(re.findall(r'(?:url|registry) = "https?://([^/"]+)', (ROOT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "app").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}
