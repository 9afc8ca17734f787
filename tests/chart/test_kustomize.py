"""The overlays build, and say what they promise."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from app.queues import QUEUES
from tests.chart.tools import ROOT, Manifest, environment, pod_of, run, tool

HASH = r"-[2456789bcdfghkmt]{10}$"
OVERLAYS = ROOT / "deploy" / "kustomize" / "overlays"


def build(folder: Path) -> str:
    return run(tool("kustomize", "KUSTOMIZE"), "build", "--load-restrictor=LoadRestrictionsNone", str(folder))


def manifests(folder: Path) -> dict[tuple[str, str], Manifest]:
    """By kind and name; a name is without the hash of what is generated."""
    return {
        (found["kind"], re.sub(HASH, "", found["metadata"]["name"])): found
        for found in yaml.safe_load_all(build(folder))
    }


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
                re.sub(HASH, "", v["secretKeyRef"]["name"])
                for v in environment(pod_of(found[kind, name])).values()
                if "secretKeyRef" in v
            }
            assert wanted <= secrets, name
    assert "demo_data" in pod_of(found["Job", "pressroom"])["containers"][0]["args"][2]


def test_production_scales_its_workers_and_has_no_server_nor_secret_of_its_own() -> None:
    found = manifests(OVERLAYS / "production")
    assert not [name for kind, name in found if kind in ("StatefulSet", "Secret", "PersistentVolumeClaim")]
    for queue in QUEUES:
        name = f"pressroom-worker-{queue.name}"
        assert found["ScaledObject", name]["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in found["Deployment", name]["spec"]
    assert found["ConfigMap", "pressroom"]["data"]["REDIS_URL"].startswith("rediss://")
    assert ("PodMonitor", "pressroom") in found


def changed(folder: Path, old: str, new: str) -> Path:
    """A copy of the overlay for development with a change. Returns its folder."""
    text = (OVERLAYS / "dev" / "kustomization.yaml").read_text()
    assert old in text
    base = os.path.relpath(ROOT / "deploy/kustomize/base", folder.resolve())
    (folder / "kustomization.yaml").write_text(text.replace("../../base", base).replace(old, new))
    return folder


def names(folder: Path, kind: str) -> set[str]:
    return {found["metadata"]["name"] for found in yaml.safe_load_all(build(folder)) if found["kind"] == kind}


@pytest.mark.parametrize(
    ("old", "new"), [("newTag: dev", "newTag: v2"), ("LOG_FORMAT=json", "LOG_FORMAT=console"), ("LOCAL=1", "LOCAL=0")]
)
def test_another_image_or_setting_is_another_migration_and_restarts_every_pod(
    old: str, new: str, tmp_path: Path
) -> None:
    """A Job cannot be changed; and a ConfigMap of the same name would restart nothing."""
    overlay, other = OVERLAYS / "dev", changed(tmp_path, old, new)
    [job], [other_job] = names(overlay, "Job"), names(other, "Job")
    [config], [other_config] = names(overlay, "ConfigMap"), names(other, "ConfigMap")
    assert job == config != other_job == other_config
    for (kind, name), found in manifests(other).items():
        if kind in ("Deployment", "Job"):
            assert {"configMapRef": {"name": other_config}} in pod_of(found)["containers"][0]["envFrom"], name


def test_another_password_restarts_what_reads_it(tmp_path: Path) -> None:
    other = changed(
        tmp_path,
        "pressroom-redis, literals: [password=for-development-only]",
        "pressroom-redis, literals: [password=x]",
    )
    [redis] = [name for name in names(other, "Secret") if name.startswith("pressroom-redis-")]
    found = manifests(other)
    for kind, name in (("StatefulSet", "pressroom-redis"), ("Deployment", "pressroom-web")):
        environment_ = environment(pod_of(found[kind, name]))
        assert environment_["REDIS_PASSWORD"]["secretKeyRef"]["name"] == redis
    assert redis not in names(OVERLAYS / "dev", "Secret")


def test_the_image_is_named_in_the_settings() -> None:
    """Sentry and the logs tell releases apart by it."""
    assert manifests(OVERLAYS / "dev")["ConfigMap", "pressroom"]["data"]["RELEASE"] == "dev"
    assert manifests(OVERLAYS / "production")["ConfigMap", "pressroom"]["data"]["RELEASE"] == "1"


def test_two_builds_are_the_same() -> None:
    for overlay in ("dev", "production"):
        assert build(OVERLAYS / overlay) == build(OVERLAYS / overlay)
