"""kubeconform, with Kubernetes' own schemas."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chart import schemas
from tests.chart.tools import CHART, run, tool


@pytest.fixture(scope="session")
def conforms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Raises Refused where a manifest is not what Kubernetes takes."""
    kubeconform = tool("kubeconform", "KUBECONFORM")
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write(folder)
    location = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    # Others' kinds: an installation tries them.
    others = "ScaledObject,PodMonitor,PrometheusRule,HTTPRoute"
    return lambda manifests: run(
        kubeconform, "-strict", "-schema-location", location, "-skip", others, "-", given=manifests
    )


@pytest.fixture
def chart_with(tmp_path: Path) -> Callable[..., str]:
    """A copy of the chart with another table of queues. Returns its path."""

    def copy(queues: list[dict[str, Any]]) -> str:
        folder = tmp_path / queues[0]["name"]
        shutil.copytree(CHART, folder)
        (folder / "files" / "queues.json").write_text(json.dumps(queues))
        return str(folder)

    return copy
