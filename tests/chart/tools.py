"""The command-line tools that the Makefile builds with Go, at the versions it names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "pressroom"
VERSIONS = dict(re.findall(r"^(\w+)_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))

Manifest = dict[str, Any]


class Refused(Exception):
    """helm did not render the chart; the text is what it said."""


def tool(name: str, version: str) -> str:
    """Path of a tool. Skips the test on a machine without Go; anywhere else its absence is an error."""
    path = ROOT / ".tools" / f"{name}-{VERSIONS[version]}" / name
    if not path.exists() and shutil.which("go") is None:
        pytest.skip(f"{name} is built with Go, and there is no Go")
    return str(path)


def run(*command: str, given: str = "") -> str:
    """Standard output. Raises Refused with standard error."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr or done.stdout)
    return done.stdout


@cache
def template(*arguments: str, version: str = "HELM", release: str = "press", chart: str = str(CHART)) -> str:
    """What `helm template` prints. Raises Refused."""
    # Not of the helm's making: built with `go install`, helm 3 takes the cluster for one of 1.20.
    at = f"--kube-version={VERSIONS['KUBERNETES']}"
    return run(tool("helm", version), "template", release, chart, "-n", "news", at, *arguments)


def render(values: dict[str, Any] | None = None, *arguments: str, **options: str) -> list[Manifest]:
    """The manifests of a release ``press`` in namespace ``news``; ``options`` as for ``template``. Raises Refused."""
    given = [f"--set-json={name}={json.dumps(value)}" for name, value in (values or {}).items()]
    return [found for found in yaml.safe_load_all(template(*given, *arguments, **options)) if found]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The manifest of that kind whose name is, or begins with, ``name``."""
    [found] = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind
        and re.fullmatch(rf"{re.escape(name)}(-[0-9a-f]{{10}})?", manifest["metadata"]["name"])
    ]
    return found


def pod_of(manifest: Manifest) -> Manifest:
    """The pod's spec within a Pod, Job, Deployment or StatefulSet."""
    found: Manifest = manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
    return found


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """By name, the spec of every pod."""
    kinds = ("Deployment", "StatefulSet", "Job", "Pod")
    return {found["metadata"]["name"]: pod_of(found) for found in manifests if found["kind"] in kinds}


def environment(pod: Manifest) -> dict[str, Any]:
    """Name and value, or where it comes from, of the only container's own variables."""
    [container] = pod["containers"]
    return {given["name"]: given.get("value", given.get("valueFrom")) for given in container.get("env", [])}
