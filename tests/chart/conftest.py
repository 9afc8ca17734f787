"""kubeconform, with Kubernetes' own schemas."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chart import schemas
from tests.chart.tools import run, tool


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
