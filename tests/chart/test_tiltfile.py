"""What `tilt up` would do, beside the chart, the Dockerfile and the site that the Tiltfile speaks of."""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import starlark
import yaml
from django.urls import resolve

from app.queues import QUEUES
from tests.chart.tiltfile import Tiltfile, dockerfile, evaluate
from tests.chart.tools import CHART, ROOT, Manifest, one, pod_of, pods, run, tool

WAYS: list[dict[str, Any]] = [{}, {"monitoring": True}, {"keda": True}, {"monitoring": True, "keda": True}]


@pytest.fixture(scope="module", params=WAYS, ids=lambda flags: "+".join(flags) or "plain")
def tiltfile(request: Any) -> Tiltfile:
    return evaluate(**request.param)


@pytest.fixture(scope="module")
def plain() -> Tiltfile:
    return evaluate()


def own(file: Tiltfile) -> dict[str, Manifest]:
    """The pods of our image, by name of the resource."""
    [build] = file.asked["docker_build"]
    found = {name: pod_of(manifest) for name, manifest in file.names.items()}
    return {name: pod for name, pod in found.items() if pod["containers"][0]["image"].split(":")[0] == build["ref"]}


def test_every_workload_is_a_resource_and_the_other_way_round(tiltfile: Tiltfile) -> None:
    asked = {name for name, given in tiltfile.resources().items() if "cmd" not in given and not given["objects"]}
    assert asked == set(tiltfile.names)
    queues = {f"worker-{queue.name}" for queue in QUEUES}
    assert asked == queues | {"postgres", "redis", "mailpit", "migrate", "web", "relay", "beat", "exporter"}


def test_everything_is_grouped(tiltfile: Tiltfile) -> None:
    for name, given in tiltfile.resources().items():
        assert len(given["labels"]) == 1, name
        assert re.fullmatch(r"[a-z]([a-z-]*[a-z])?", given["labels"][0]), name


def test_what_is_waited_for_is_there_and_nothing_waits_for_itself(tiltfile: Tiltfile) -> None:
    resources = tiltfile.resources()
    needs = {name: set(given["resource_deps"]) for name, given in resources.items()}
    assert set().union(*needs.values()) <= set(resources)
    order = list(TopologicalSorter(needs).static_order())  # CycleError
    assert order.index("postgres") < order.index("migrate") < order.index("web") < order.index("demo-data")
    for name in own(tiltfile):
        assert name == "migrate" or "migrate" in needs[name], name


def test_nothing_that_waits_for_a_click_is_waited_for(tiltfile: Tiltfile) -> None:
    """`tilt ci` ends when all is up that starts by itself; Tilt leaves out what has `auto_init=False`."""
    resources = tiltfile.resources()
    at_a_click = {name for name, given in resources.items() if not given["auto_init"]}
    assert at_a_click == {name for name, given in resources.items() if given["labels"] == ["try-it"]} > {"demo-data"}
    for name, given in resources.items():
        assert not at_a_click & set(given["resource_deps"]), name
        if name in at_a_click:
            assert given["trigger_mode"] == "manual"


def test_a_migration_runs_again_at_a_click_only(plain: Tiltfile) -> None:
    """Its pod has ended: each change of code would build the image anew."""
    manual = {name for name, given in plain.resources().items() if given["trigger_mode"] == "manual"}
    assert {name for name in own(plain) if plain.names[name]["kind"] == "Job"} == manual & set(own(plain))


def test_files_that_are_named_are_there(tiltfile: Tiltfile) -> None:
    named = set(tiltfile.read)
    named |= {path for one in tiltfile.asked["fall_back_on"] for path in one["files"]}
    named |= {one["local_path"] for one in tiltfile.asked["sync"]}
    named |= {path for one in tiltfile.asked["local_resource"] for path in one["deps"]}
    assert {"app", "uv.lock", "deploy/tilt/secrets.yaml"} < named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_code_goes_where_the_image_has_it(plain: Tiltfile) -> None:
    image = dockerfile()
    [build] = plain.asked["docker_build"]
    synced = {step["local_path"]: Path(step["remote_path"]) for step in build["live_update"] if step["is"] == "sync"}
    [fall_back] = [set(step["files"]) for step in build["live_update"] if step["is"] == "fall_back_on"]
    assert build["live_update"][0]["is"] == "fall_back_on"  # Tilt wants it first
    # All that the image is made of either goes in, or makes a new image.
    assert set(synced) | fall_back == image["copied"] | {"Dockerfile"}
    assert synced == {name: image["folder"] / name for name in synced}
    assert all(container["image"] for pod in own(plain).values() for container in pod["containers"])


def test_the_image_is_built_for_it(plain: Tiltfile) -> None:
    [build] = plain.asked["docker_build"]
    assert set(build["build_args"]) <= dockerfile()["arguments"]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert groups[build["build_args"]["GROUP"]][0].startswith("watchfiles")
    assert len(own(plain)) == 6 + len(QUEUES) - 1
    for name, pod in own(plain).items():
        # Who runs may replace the code, and is not root.
        assert str(pod["securityContext"]["runAsUser"]) == build["build_args"]["OWNER"]
        container = pod["containers"][0]
        ends = plain.names[name]["kind"] == "Job"
        assert (container["args"][0] == "watchfiles") is not ends
        assert container["securityContext"]["readOnlyRootFilesystem"] is ends


def test_the_release_is_what_the_chart_renders(tiltfile: Tiltfile) -> None:
    [asked] = tiltfile.asked["helm"]
    settings = [f"--set={setting}" for setting in asked["set"]] + [f"-f={ROOT / 'deploy' / 'tilt' / 'values.yaml'}"]
    text = run(tool("helm", "HELM"), "template", "pressroom", str(CHART), "--skip-tests", "-n", "pressroom", *settings)
    chart = [as_tilt_has_it(found) for found in yaml.safe_load_all(text) if found]
    assert [manifest for manifest in chart if manifest not in tiltfile.manifests] == []
    beside = [manifest for manifest in tiltfile.manifests if manifest not in chart]
    assert [(m["kind"], m["metadata"]["name"]) for m in beside] == [
        ("Namespace", "pressroom"), ("Secret", "pressroom-django"), ("Secret", "pressroom-redis"),
        ("Secret", "pressroom-postgres"), ("Service", "mailpit"), ("Deployment", "mailpit"),
    ]  # fmt: skip


def as_tilt_has_it(manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {"namespace": "pressroom", **manifest["metadata"]}}


def test_read_again_it_is_the_same(tiltfile: Tiltfile) -> None:
    """No password is made: with another one each time, Postgres would let nobody in."""
    assert evaluate(**tiltfile.flags).manifests == tiltfile.manifests


def test_what_pods_refer_to_is_there(plain: Tiltfile) -> None:
    there = {
        (found["kind"], found["metadata"]["name"], key)
        for found in plain.manifests
        if found["kind"] in ("Secret", "ConfigMap")
        for key in [*found.get("stringData", found.get("data", {})), ""]
    }
    for pod in pods(plain.manifests).values():
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"], "") in there
            for given in container.get("env", []):
                if key := given.get("valueFrom", {}).get("secretKeyRef"):
                    assert ("Secret", key["name"], key["key"]) in there


def test_pods_pass_the_namespaces_policy(tiltfile: Tiltfile) -> None:
    """It enforces `restricted`, in development as well."""
    namespace = one(tiltfile.manifests, "Namespace", "pressroom")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(tiltfile.manifests).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_kubernetes_takes_what_stands_beside_the_chart(conforms: Callable[[str], str]) -> None:
    for path in sorted((ROOT / "deploy" / "tilt").glob("*.yaml")):
        if path.name not in ("values.yaml", "monitoring.yaml"):  # helm's
            conforms(path.read_text())


@pytest.mark.parametrize(
    ("flag", "kinds", "installs"),
    [("keda", {"ScaledObject"}, "keda"), ("monitoring", {"PodMonitor", "PrometheusRule"}, "prometheus")],
)
def test_objects_of_others_kinds_wait_for_who_knows_them(flag: str, kinds: set[str], installs: str) -> None:
    with_it, without = evaluate(**{flag: True}), evaluate()
    assert installs not in without.resources()
    assert not [found for found in without.manifests if found["kind"] in kinds]
    theirs = sorted(
        f"{found['metadata']['name']}:{found['kind']}" for found in with_it.manifests if found["kind"] in kinds
    )
    assert theirs
    grouped = [given for given in with_it.resources().values() if given.get("objects")]
    assert [sorted(given["objects"]) for given in grouped] == [theirs]
    assert installs in grouped[0]["resource_deps"]
    assert with_it.resources()[installs]["auto_init"]


def test_grafana_is_reached_and_has_the_dashboard(plain: Tiltfile) -> None:
    file = evaluate(monitoring=True)
    prometheus = file.resources()["prometheus"]
    [link] = prometheus["links"]
    assert f" {urlsplit(link['url']).port}:80" in prometheus["serve_cmd"]
    assert one(file.manifests, "ConfigMap", "pressroom-dashboard")["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert not [m for m in plain.manifests if m["metadata"]["name"] == "pressroom-dashboard"]


def test_ports_that_are_forwarded_are_listened_on(tiltfile: Tiltfile) -> None:
    local = []
    for name, given in tiltfile.resources().items():
        for forward in given["port_forwards"]:
            [container] = pod_of(tiltfile.names[name])["containers"]
            assert forward["container_port"] in {port["containerPort"] for port in container["ports"]}
            local.append(forward["local_port"])
    assert len(set(local)) == len(local) == 5


def test_links_lead_to_pages_of_the_site(plain: Tiltfile) -> None:
    config = one(plain.manifests, "ConfigMap", "pressroom")["data"]
    web = plain.resources()["web"]
    found = [urlsplit(link["url"]) for link in web["links"]]
    for url in found:
        assert f"{url.scheme}://{url.netloc}" == config["SITE_URL"]
        assert url.hostname in config["ALLOWED_HOSTS"].split(",")
        assert url.port == web["port_forwards"][0]["local_port"]
        resolve(url.path)
    assert {"/admin/operations/", "/api/docs/", "/api/redoc/"} == {url.path for url in found}


def test_mail_goes_to_mailpit(plain: Tiltfile) -> None:
    service = one(plain.manifests, "Service", "mailpit")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    for name, pod in own(plain).items():
        env = {given["name"]: given.get("value") for given in pod["containers"][0]["env"]}
        assert env["EMAIL_URL"] == f"smtp://{service['metadata']['name']}:{ports['smtp']}", name
    assert plain.resources()["mailpit"]["port_forwards"][0]["container_port"] == ports["http"]


def test_commands_name_what_is_there(plain: Tiltfile) -> None:
    commands = [given["cmd"] for given in plain.resources().values() if "cmd" in given]
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"test"} <= set(re.findall(r"\bmake ([a-z-]+)", "\n".join(commands))) <= targets
    there = {found["metadata"]["name"]: found for found in plain.names.values()}
    for name in re.findall(r" deployment/(\S+)", "\n".join(commands)):
        assert there[name]["kind"] == "Deployment"
    labels = [found["spec"]["template"]["metadata"].get("labels", {}) for found in there.values()]
    for label, value in re.findall(r"--selector (\S+)=(\S+)", "\n".join(commands)):
        assert value in {found.get(label) for found in labels}
    for module in re.findall(r"python -m (\S+)", "\n".join(commands)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()


def test_only_ctlptls_cluster_is_touched() -> None:
    documents = list(yaml.safe_load_all((ROOT / "ctlptl.yaml").read_text()))
    registry, cluster = sorted(documents, key=lambda found: str(found["kind"]), reverse=True)
    assert (cluster["product"], cluster["registry"]) == ("kind", registry["name"])
    assert cluster["name"].startswith("kind-")  # ctlptl wants it
    [allowed] = evaluate().asked["allow_k8s_contexts"]
    assert allowed["contexts"] == cluster["name"]
    with pytest.raises(starlark.StarlarkError, match="kubectl points to production: `ctlptl apply"):
        evaluate(context="production")


def test_names_on_the_command_line_are_those_that_start() -> None:
    [enabled] = evaluate(resources=["web"]).asked["set_enabled_resources"]
    assert enabled["resources"] == ["web"]


def test_the_passwords_are_none(plain: Tiltfile) -> None:
    """Whoever looks for secrets in the repository sees at once that these are none."""
    for found in plain.manifests:
        if found["kind"] == "Secret":
            values = [*found.get("stringData", {}).values()]
            values += [base64.b64decode(value).decode() for value in found.get("data", {}).values()]
            assert values
            assert all(value.startswith("for-development-only") for value in values)
