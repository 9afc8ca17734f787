"""GitHub's workflows are valid, and run what the Makefile has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chart.tools import Refused, run, tool

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def lint(*paths: Path) -> str:
    # Not with whatever shellcheck and pyflakes a machine may have.
    command = [tool("actionlint", "ACTIONLINT"), "-shellcheck=", "-pyflakes=", "-no-color"]
    return run(*command, *map(str, paths))


def test_they_are_valid() -> None:
    assert WORKFLOWS
    assert lint(*WORKFLOWS) == ""


def test_a_wrong_one_would_be_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: 'echo ${{ no.thing }}'}]}}\n")
    with pytest.raises(Refused):
        lint(wrong)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_they_run_what_is_there(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][\w-]*) ", text)) <= targets
    for name in re.findall(r"(?:run|uses): \.?/?(\.\w+/\S+)", text):
        assert (ROOT / name).exists()


def test_the_release_is_the_projects_version() -> None:
    """The tag is compared with it, and the chart's image is put where its values have one."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert '["project"]["version"]' in text
    [pattern] = re.findall(r"s\|(\^.+\$)\|", text)
    values = (ROOT / "deploy" / "helm" / "pressroom" / "values.yaml").read_text()
    assert len(re.findall(pattern, values, re.MULTILINE)) == 1
