"""The overlays build, and say what they promise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from app.queues import QUEUES
from tests.chart.tools import ROOT, Manifest, environment, pod_of, run, tool

OVERLAYS = ROOT / "deploy" / "kustomize" / "overlays"


def build(folder: Path) -> str:
    return run(tool("kustomize", "KUSTOMIZE"), "build", "--load-restrictor=LoadRestrictionsNone", str(folder))


def manifests(folder: Path) -> dict[tuple[str, str], Manifest]:
    """By kind and name."""
    return {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(build(folder))}


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_kubernetes_takes_it(overlay: str, conforms: Callable[[str], str]) -> None:
    conforms(build(OVERLAYS / overlay))


def test_development_keeps_nothing_and_has_all_it_names() -> None:
    found = manifests(OVERLAYS / "dev")
    for kind, name in found:
        if kind == "StatefulSet":
            assert "volumeClaimTemplates" not in found[kind, name]["spec"]
            assert {"name": "data", "emptyDir": {}} in pod_of(found[kind, name])["volumes"]
    secrets = {name for kind, name in found if kind == "Secret"}
    for kind, name in found:
        if kind in ("Deployment", "Job"):
            wanted = {
                v["secretKeyRef"]["name"]
                for v in environment(pod_of(found[kind, name])).values()
                if "secretKeyRef" in v
            }
            assert wanted <= secrets, name
    assert "demo_data" in pod_of(found["Job", "pressroom-migrate-dev"])["containers"][0]["args"][2]


def test_production_scales_its_workers_and_has_no_server_nor_secret_of_its_own() -> None:
    found = manifests(OVERLAYS / "production")
    assert not [name for kind, name in found if kind in ("StatefulSet", "Secret", "PersistentVolumeClaim")]
    for queue in QUEUES:
        name = f"pressroom-worker-{queue.name}"
        assert found["ScaledObject", name]["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in found["Deployment", name]["spec"]
    assert found["ConfigMap", "pressroom"]["data"]["REDIS_URL"].startswith("rediss://")
    assert ("PodMonitor", "pressroom") in found


def test_another_image_is_another_migration(tmp_path: Path) -> None:
    """A Job cannot be changed."""
    text = (OVERLAYS / "dev" / "kustomization.yaml").read_text()
    overlay = OVERLAYS / "dev"
    (tmp_path / "kustomization.yaml").write_text(
        text.replace("../../base", os.path.relpath(ROOT / "deploy/kustomize/base", tmp_path.resolve())).replace(
            "newTag: dev", "newTag: v2"
        )
    )
    migrations = [{name for kind, name in manifests(where) if kind == "Job"} for where in (overlay, tmp_path)]
    assert migrations == [{"pressroom-migrate-dev"}, {"pressroom-migrate-v2"}]
