"""Names: any release installs, or is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from app.queues import QUEUES
from tests.chart.tools import Manifest, Refused, render, template

EVERYTHING = {
    "autoscaling": {"provider": "keda"},
    "celeryExporter": {"enabled": True},
    "idleFirst": {"enabled": True},
    "metrics": {"podMonitor": True, "prometheusRule": True, "dashboard": True},
    "networkPolicy": {"enabled": True},
}
LONGEST = 53
"""Helm refuses longer names of releases."""


def named(release: str, **values: Any) -> list[Manifest]:
    return render(EVERYTHING | values, release=release)


def labels(manifest: Manifest) -> dict[str, str]:
    """All labels of an object, of its pods, and those that Kubernetes and KEDA make from its name."""
    name, kind = manifest["metadata"]["name"], manifest["kind"]
    made = {
        "Job": {"job-name": name},
        "StatefulSet": {"controller-revision-hash": f"{name}-0123456789", "pod-name": f"{name}-0"},
        "ScaledObject": {"app.kubernetes.io/name": f"keda-hpa-{name}"},
    }
    pods = manifest["spec"]["template"]["metadata"]["labels"] if "template" in manifest.get("spec", {}) else {}
    return manifest["metadata"]["labels"] | pods | made.get(kind, {})


@pytest.mark.parametrize("length", [1, 29, 30, 34, 35, 43, 44, 47, 52, LONGEST])
@pytest.mark.parametrize("values", [{}, {"fullnameOverride": "n" * 63}, {"nameOverride": "n" * 63}])
def test_a_release_of_any_length(length: int, values: dict[str, str], conforms: Callable[[str], str]) -> None:
    manifests = named("r" * length, **values)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)
    assert sum(kind in ("Deployment", "StatefulSet") for kind, _ in names) == 6 + 2 + len(QUEUES)
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        assert len(name) <= (52 if manifest["kind"] == "StatefulSet" else 63), name
        assert not name.endswith("-")
        for label, value in labels(manifest).items():
            assert len(value) <= 63, f"{name}: {label}={value}"
    conforms(yaml.safe_dump_all(manifests))


def test_what_a_name_refers_to_is_there() -> None:
    """Cut names, too, are the same wherever they stand."""
    manifests = named("r" * LONGEST)
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    references = {"configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key in references:
                    assert (references[key], item["name"]) in there
                    seen.add(key)
                elif key in ("serviceAccountName", "serviceName"):
                    assert ({"serviceAccountName": "ServiceAccount", "serviceName": "Service"}[key], item) in there
                    seen.add(key)
                walk(item)

    seen: set[str] = set()
    walk(manifests)
    assert seen == {*references, "serviceAccountName", "serviceName"}
    [config] = [one["data"] for one in manifests if one["kind"] == "ConfigMap" and "DATABASE_URL" in one["data"]]
    hosts = {config["DATABASE_URL"].partition("@")[2].partition(":")[0], config["REDIS_URL"][8:].partition(":")[0]}
    assert {("Service", host) for host in hosts} < there


def test_two_long_releases_in_one_namespace_share_no_object() -> None:
    first, second = (
        {(manifest["kind"], manifest["metadata"]["name"]) for manifest in named("r" * (LONGEST - 1) + last)}
        for last in "ab"
    )
    assert not first & second


def test_a_short_name_is_not_cut() -> None:
    names = {manifest["metadata"]["name"] for manifest in named("press")}
    assert {"press-pressroom-web", "press-redis", "press-postgres"} < names
    assert "pressroom-web" in {manifest["metadata"]["name"] for manifest in named("pressroom")}


@pytest.mark.parametrize(
    ("release", "values", "reason"),
    [
        ("press", {"nameOverride": "Blog"}, 'nameOverride is "Blog": names of Services consist of a-z'),
        ("press", {"nameOverride": "b" * 64}, "at most 63"),
        ("press", {"nameOverride": "b/c"}, "nameOverride"),
        ("press", {"fullnameOverride": "the_blog"}, 'fullnameOverride is "the_blog"'),
        ("press", {"fullnameOverride": "blog-"}, "do not end with -"),
        ("1press", {}, 'The release\'s name is "1press"'),
        ("press.example.com", {}, "The release's name"),
    ],
)
def test_refused(release: str, values: dict[str, str], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        render(values, release=release)
    assert reason in str(caught.value)


def test_a_queue_whose_deployment_could_not_be_named_is_refused(chart_with: Callable[..., str]) -> None:
    for name in ("high_priority", "Emails", "q" * 31):
        table = [{"name": name, "pool": "threads", "concurrency": 1, "soft_time_limit": None, "time_limit": None}]
        with pytest.raises(Refused, match="has a Deployment of its name"):
            template(chart=chart_with(queues=table))
