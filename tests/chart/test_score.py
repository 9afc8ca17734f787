"""kube-score over every way to install the chart: no finding that docs/kubernetes.md does not explain."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.chart.tools import CHART, ROOT, VERSIONS, template, tool

WAYS = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
EXPLAINED = set(
    re.findall(r"^\| `([\w-]+)` \| ([^|]+?) \| [^|]{20,} \|$", (ROOT / "docs/kubernetes.md").read_text(), re.MULTILINE)
)
"""Check and finding, of each row of the table."""


def findings(manifests: str) -> set[tuple[str, str]]:
    """Check and finding of whatever kube-score does not grade as good."""
    minor = ".".join(VERSIONS["KUBERNETES"].split(".")[:2])
    command = [tool("kube-score", "KUBE_SCORE"), "score", f"--kubernetes-version=v{minor}", "--output-format=json", "-"]
    # Its exit code says that there are findings.
    told = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False)
    assert told.stdout, told.stderr
    return {
        (check["check"]["id"], comment["summary"])
        for found in json.loads(told.stdout)
        for check in found["checks"]
        if not check["skipped"] and check["grade"] < 10
        for comment in check["comments"] or [{"summary": ""}]
    }


def of(name: str) -> set[tuple[str, str]]:
    return findings(template("-f", str(CHART / "ci" / name)))


@pytest.mark.parametrize("name", WAYS)
def test_no_finding_is_unexplained(name: str) -> None:
    assert of(name) - EXPLAINED == set()


def test_no_explanation_is_left_over() -> None:
    assert EXPLAINED - set().union(*(of(name) for name in WAYS)) == set()


def test_a_mistake_would_be_found() -> None:
    good = template()
    assert ("container-resources", "Memory limit is not set") in findings(re.sub(r"memory: 640Mi", "", good))
    assert findings(good.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")) - EXPLAINED
