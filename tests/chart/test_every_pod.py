"""What platform teams set for every pod: each value arrives in each pod template, whichever template file made it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from app.queues import QUEUES
from tests.chart.tools import CHART, Manifest, pod_of, render

COMPONENTS = {
    "web": "web", "beat": "beat", "relay": "relay", "exporter": "exporter", "migrate": "migrate", "test": "test",
    "idleFirst": "idle-first", "celeryExporter": "celery-exporter", "redis": "redis", "postgres": "postgres",
    **{f"workers.{queue.name}": f"worker-{queue.name}" for queue in QUEUES},
}  # fmt: skip
"""By the section of the values, the end of the name of its pods."""
ALL = {"celeryExporter": {"enabled": True}, "idleFirst": {"enabled": True}}
MAIN = ("pressroom", "celery-exporter", "redis", "postgres")


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """By component, every pod template: labels and annotations under ``metadata``, ``spec``."""
    found = {}
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob", "ReplicaSet"):
            template = manifest["spec"]["template"]
        elif manifest["kind"] == "Pod":
            template = manifest
        else:
            continue
        name = re.sub(r"^press-(pressroom-)?|-[0-9a-f]{10}$", "", manifest["metadata"]["name"])
        found[name] = template
    return found


def main(template: Manifest) -> Manifest:
    [container] = [one for one in template["spec"]["containers"] if one["name"] in MAIN]
    return dict(container)


def labelled(template: Manifest) -> dict[str, Any]:
    return dict(template["metadata"]["labels"])


PROXY = {"name": "proxy", "image": "proxy:1"}
SETTINGS: dict[str, tuple[Any, Any]] = {
    "imagePullSecrets": (["registry"], lambda t: {"name": "registry"} in t["spec"]["imagePullSecrets"]),
    "podLabels": ({"team": "news"}, lambda t: labelled(t)["team"] == "news"),
    "podAnnotations": ({"a/b": "c"}, lambda t: t["metadata"]["annotations"]["a/b"] == "c"),
    "podSecurityContext": (
        {"supplementalGroups": [7], "runAsUser": None},
        lambda t: t["spec"]["securityContext"]["supplementalGroups"] == [7]
        and "runAsUser" not in t["spec"]["securityContext"]
        and t["spec"]["securityContext"]["runAsNonRoot"],
    ),
    "securityContext": (
        {"privileged": False, "capabilities": None},
        lambda t: main(t)["securityContext"]
        == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "privileged": False},
    ),
    "priorityClassName": ("high", lambda t: t["spec"]["priorityClassName"] == "high"),
    "runtimeClassName": ("gvisor", lambda t: t["spec"]["runtimeClassName"] == "gvisor"),
    "hostAliases": (
        [{"ip": "10.0.0.1", "hostnames": ["db"]}],
        lambda t: t["spec"]["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["db"]}],
    ),
    "nodeSelector": ({"pool": "a"}, lambda t: t["spec"]["nodeSelector"]["pool"] == "a"),
    "tolerations": ([{"key": "k", "operator": "Exists"}], lambda t: t["spec"]["tolerations"][0]["key"] == "k"),
    "affinity": (
        {"nodeAffinity": {}}, lambda t: t["spec"]["affinity"] == {"nodeAffinity": {}}
    ),
    "topologySpreadConstraints": (
        [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
        lambda t: [
            (one["topologyKey"], one["labelSelector"]["matchLabels"].items() <= labelled(t).items())
            for one in t["spec"]["topologySpreadConstraints"]
        ]
        == [("rack", True)],
    ),
    "initContainers": (
        [{"name": "first", "image": "first:1"}], lambda t: t["spec"]["initContainers"][0]["name"] == "first"
    ),
    "sidecars": ([PROXY], lambda t: {**PROXY, "restartPolicy": "Always"} in t["spec"]["initContainers"]),
    "extraVolumes": (
        [{"name": "more", "emptyDir": {}}], lambda t: {"name": "more", "emptyDir": {}} in t["spec"]["volumes"]
    ),
    "extraVolumeMounts": (
        [{"name": "tmp", "mountPath": "/more"}],
        lambda t: {"name": "tmp", "mountPath": "/more"} in main(t)["volumeMounts"],
    ),
    "lifecycle": (
        {"preStop": {"sleep": {"seconds": 3}}}, lambda t: main(t)["lifecycle"] == {"preStop": {"sleep": {"seconds": 3}}}
    ),
    "tmpSizeLimit": (
        "7Mi", lambda t: {"name": "tmp", "emptyDir": {"sizeLimit": "7Mi"}} in t["spec"]["volumes"]
    ),
}  # fmt: skip
"""By the name of a setting: a value, and what a pod template is then."""


def test_every_setting_is_tried() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(SETTINGS) == set(schema["definitions"]["pod"]["properties"])
    documented = yaml.safe_load((CHART / "values.yaml").read_text())["global"]
    assert set(SETTINGS) == set(documented) - {"openshift", "ipFamilyPolicy", "ipFamilies", "chartVersion"}


@pytest.mark.parametrize("helm", ["HELM", "HELM3"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_it_reaches_every_pod(setting: str, helm: str) -> None:
    value, holds = SETTINGS[setting]
    found = templates(render({**ALL, "global": {setting: value}}, version=helm))
    assert set(found) == set(COMPONENTS.values())
    for name, template in found.items():
        assert holds(template), f"{setting} does not reach {name}"


def test_all_at_once_is_what_kubernetes_takes(conforms: Any) -> None:
    every = {setting: value for setting, (value, _) in SETTINGS.items()}
    conforms(yaml.safe_dump_all(render({**ALL, "global": every})))


@pytest.mark.parametrize("section", COMPONENTS)
def test_every_setting_of_a_component_reaches_its_pods_and_no_others(section: str) -> None:
    own = {setting: value for setting, (value, _) in SETTINGS.items()}
    before = templates(render(ALL))
    values = {**ALL, **{f"{section}.{setting}": value for setting, value in own.items()}}
    after = templates(render(values))
    component = COMPONENTS[section]
    for setting, (_, holds) in SETTINGS.items():
        # Of `initContainers` the first is looked at, and a sidecar is among them.
        assert holds(after[component]), f"{section}.{setting}"
    assert {name: after[name] for name in after if name != component} == {
        name: before[name] for name in before if name != component
    }


def test_the_nearer_value_wins_and_lists_are_joined() -> None:
    manifests = render({
        "global": {
            "podLabels": {"team": "platform", "cost": "1"},
            "imagePullSecrets": ["a"],
            "priorityClassName": "low",
            "tolerations": [{"key": "a"}],
        },
        "worker": {"podLabels": {"team": "workers"}},
        "workers": {
            "emails": {"imagePullSecrets": [{"name": "b"}], "priorityClassName": "high", "tolerations": [{"key": "b"}]}
        },
    })  # fmt: skip
    emails, web = (templates(manifests)[name] for name in ("worker-emails", "web"))
    assert labelled(emails).items() >= {"team": "workers", "cost": "1"}.items()
    assert emails["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]
    assert emails["spec"]["priorityClassName"] == "high"
    assert emails["spec"]["tolerations"] == [{"key": "a"}, {"key": "b"}]
    assert (labelled(web)["team"], web["spec"]["priorityClassName"]) == ("platform", "low")


def test_a_label_of_a_selector_cannot_be_changed() -> None:
    for template in templates(render({"global": {"podLabels": {"app.kubernetes.io/name": "mine"}}})).values():
        assert labelled(template)["app.kubernetes.io/name"] != "mine"


def test_a_hook_of_the_values_replaces_the_charts_and_no_other() -> None:
    web = templates(render({"web.lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}))["web"]
    assert main(web)["lifecycle"] == {
        "preStop": {"exec": {"command": ["sleep", "10"]}}, "postStart": {"exec": {"command": ["true"]}}
    }  # fmt: skip


@pytest.mark.parametrize("helm", ["HELM", "HELM3"])
def test_openshift_chooses_the_ids(helm: str) -> None:
    """Its policy `restricted-v2` refuses ids that are not of the namespace's range."""
    for template in templates(render({**ALL, "global": {"openshift": True}}, version=helm)).values():
        context = template["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert main(template)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_service_account_takes_annotations_and_can_be_yours() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/press"}
    manifests = render({"serviceAccount": {"annotations": role}})
    [account] = [one for one in manifests if one["kind"] == "ServiceAccount"]
    assert account["metadata"]["annotations"] == role
    for values, name in (({"create": False}, "default"), ({"create": False, "name": "mine"}, "mine")):
        manifests = render({**ALL, "serviceAccount": values})
        accounts = {one["metadata"]["name"] for one in manifests if one["kind"] == "ServiceAccount"}
        assert accounts == {"press-pressroom-idle-first"}
        pods = templates(manifests)
        others = [pods[key]["spec"] for key in pods if key not in ("redis", "postgres", "idle-first")]
        assert {spec["serviceAccountName"] for spec in others} == {name}


def test_the_one_pod_that_asks_kubernetes_may_do_no_more_than_it_needs() -> None:
    manifests = render({"idleFirst": {"enabled": True}})
    [role] = [one for one in manifests if one["kind"] == "Role"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    [binding] = [one for one in manifests if one["kind"] == "RoleBinding"]
    [subject] = binding["subjects"]
    tokens = {
        template["spec"]["serviceAccountName"]
        for template in templates(manifests).values()
        if template["spec"]["automountServiceAccountToken"]
    }
    assert tokens == {subject["name"]} == {"press-pressroom-idle-first"}
    assert not [one for one in render() if one["kind"] in ("Role", "RoleBinding")]


def test_no_pod_can_fill_a_nodes_disk() -> None:
    for name, template in templates(render(ALL)).items():
        container = main(template)
        assert container["resources"]["limits"]["ephemeral-storage"], name
        assert container["resources"]["requests"]["ephemeral-storage"], name
        for volume in template["spec"]["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], f"{name}: {volume}"
    without = {"redis": {"persistence": {"enabled": False}}, "postgres": {"persistence": {"enabled": False}}}
    for name in ("redis", "postgres"):
        pod = pod_of({"kind": "Deployment", "spec": {"template": templates(render(without))[name]}})
        [data] = [volume for volume in pod["volumes"] if volume["name"] == "data"]
        assert data["emptyDir"]["sizeLimit"]


def test_postgres_has_room_for_parallel_queries() -> None:
    postgres = templates(render({"postgres.shmSize": "300Mi"}))["postgres"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "300Mi"}} in postgres["spec"]["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in main(postgres)["volumeMounts"]  # noqa: S108 - in the pod


def test_the_service_of_web() -> None:
    service = {
        "type": "LoadBalancer", "nodePort": 30080, "loadBalancerClass": "example.com/lb",
        "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local",
    }  # fmt: skip
    [spec] = [
        one["spec"]
        for one in render({"web.service": service})
        if one["kind"] == "Service" and one["metadata"]["name"] == "press-pressroom-web"
    ]
    assert spec["ports"] == [{"name": "http", "port": 80, "targetPort": "http", "nodePort": service.pop("nodePort")}]
    assert service.items() <= spec.items()
