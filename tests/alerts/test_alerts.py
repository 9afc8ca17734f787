"""Every alert is tried with Prometheus's own tool, and has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.debian import PROGRAMS, binary

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy" / "helm" / "pressroom" / "files" / "alerts.yaml"
CASES = Path(__file__).parent
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in ALERTS]


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [binary(PROGRAMS["prometheus"]), *arguments], cwd=CASES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))


@pytest.mark.parametrize("name", NAMES)
def test_it_fires_and_does_not(name: str) -> None:
    cases = [case["alert_rule_test"] for case in yaml.safe_load((CASES / f"{name}.yaml").read_text())["tests"]]
    assert {test["alertname"] for tests in cases for test in tests} == {name}
    assert {bool(test["exp_alerts"]) for tests in cases for test in tests} == {True, False}
    promtool("test", "rules", f"{name}.yaml")


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_it_has_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    page = (ROOT / "docs" / "runbooks" / f"{rule['alert']}.md").read_text()
    assert page.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    for link in re.findall(r"\]\((\w+\.md)\)", page):
        assert (ROOT / "docs" / "runbooks" / link).exists()


def test_there_is_no_page_nor_test_without_an_alert() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").iterdir()} == set(NAMES)
    assert {path.stem for path in CASES.glob("*.yaml")} == set(NAMES)


def test_the_rules_name_no_queue() -> None:
    from app.queues import QUEUES

    assert not re.findall(rf'"({"|".join(queue.name for queue in QUEUES)})"', RULES.read_text())
