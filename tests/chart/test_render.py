"""The chart, rendered by both helms in use: what Kubernetes takes, and what holds for every pod."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from app.queues import QUEUES
from tests.chart.tools import CHART, ROOT, Refused, environment, one, pod_of, pods, render, run, template, tool

WAYS = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
HELMS = ["HELM", "HELM3"]


def way(name: str, version: str = "HELM") -> list[dict[str, Any]]:
    return render(None, "-f", str(CHART / "ci" / name), version=version)


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("name", WAYS)
def test_lint(name: str, helm: str) -> None:
    told = run(tool("helm", helm), "lint", "--strict", str(CHART), "-f", str(CHART / "ci" / name))
    assert "0 chart(s) failed" in told


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("name", WAYS)
def test_kubernetes_takes_it(name: str, helm: str, conforms: Callable[[str], str]) -> None:
    conforms(template("-f", str(CHART / "ci" / name), version=helm))


def test_kubernetes_would_not_take_what_is_misspelt(conforms: Callable[[str], str]) -> None:
    with pytest.raises(Refused, match="replica"):
        conforms(template().replace("replicas: 1", "replica: 1"))


@pytest.mark.parametrize("name", WAYS)
def test_every_pod_is_restricted(name: str) -> None:
    found = pods(way(name))
    assert found
    for component, pod in found.items():
        assert pod["automountServiceAccountToken"] is (component == "press-pressroom-idle-first")
        assert pod["securityContext"]["runAsNonRoot"] is True
        # OpenShift gives each namespace its own users.
        assert name == "openshift-values.yaml" or pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("name", WAYS)
def test_two_renderings_are_the_same_but_for_new_passwords(name: str) -> None:
    """No time and no chance in what would restart pods."""
    once, again = way(name), yaml.safe_load_all(template("-f", str(CHART / "ci" / name), "--description=again"))
    assert [m for m in once if m["kind"] != "Secret"] == [m for m in again if m and m["kind"] != "Secret"]


def test_every_queue_has_one_deployment_with_the_numbers_of_the_table() -> None:
    manifests = render()
    workers = {name for name, pod in pods(manifests).items() if "worker" in pod["containers"][0].get("args", [])}
    assert workers == {f"press-pressroom-worker-{queue.name}" for queue in QUEUES}
    for queue in QUEUES:
        deployment = one(manifests, "Deployment", f"press-pressroom-worker-{queue.name}")
        pod = pod_of(deployment)
        command = pod["containers"][0]["args"]
        options = {flag: command[command.index(flag) + 1] for flag in ("-Q", "-P", "-c")}
        assert options == {"-Q": queue.name, "-P": queue.pool, "-c": str(queue.concurrency)}
        # All that has not run over its soft limit can end, and 5 s are left for what has.
        assert pod["terminationGracePeriodSeconds"] == (queue.soft_time_limit or 0) + 10
        assert environment(pod)["TASKRUNS_GRACE"] == str(pod["terminationGracePeriodSeconds"] - 5)


def test_beat_is_one_and_goes_on_until_the_next_is_ready() -> None:
    spec = one(render(), "Deployment", "press-pressroom-beat")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (
        1,
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
    )
    disrupted = render({"web": {"replicas": 3}, "worker": {"replicas": 3}, "relay": {"replicas": 3}})
    assert {m["metadata"]["name"] for m in disrupted if m["kind"] == "PodDisruptionBudget"} == {
        "press-pressroom-web", *(f"press-pressroom-worker-{queue.name}" for queue in QUEUES)
    }  # fmt: skip


def test_processes_hear_sigterm_at_any_moment() -> None:
    """superset#33513: a shell in between keeps the signal to itself; process 1 ignores one without a handler."""
    assert 'ENTRYPOINT ["dumb-init", "--single-child", "--"]' in (ROOT / "Dockerfile").read_text()
    found = pods(render({"celeryExporter": {"enabled": True}}))
    for name, pod in found.items():
        [container] = pod["containers"]
        if container["name"] == "pressroom":
            assert container["args"], name
            assert "command" not in container, f"{name} goes past the image's entrypoint"
        elif command := container.get("command"):
            assert re.search(r"^exec |\bos\.execvp\(", command[2], re.MULTILINE), name
    assert len(found) > 8


def test_an_upgrade_leaves_pods_on_several_nodes() -> None:
    """Those that it is about to end are not counted."""
    spread = {name: pod["topologySpreadConstraints"] for name, pod in pods(render()).items() if "web" in name}
    assert spread
    for constraints in spread.values():
        assert [one["topologyKey"] for one in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert all(one["matchLabelKeys"] == ["pod-template-hash"] for one in constraints)


def test_no_hook_but_the_test() -> None:
    """chatwoot/charts#206: a post-install hook under --wait waits for what waits for it."""
    hooks = {
        manifest["metadata"]["name"]: manifest["metadata"]["annotations"]["helm.sh/hook"]
        for manifest in render()
        if "helm.sh/hook" in manifest["metadata"].get("annotations", {})
    }
    assert hooks == {"press-pressroom-test": "test"}


def test_a_migration_has_the_name_of_what_it_runs() -> None:
    """A Job cannot be changed: another image, or another setting, is another Job."""

    def job(**values: Any) -> str:
        [name] = [m["metadata"]["name"] for m in render(values) if m["kind"] == "Job"]
        return str(name)

    assert job() == job(web={"replicas": 5})
    names = {job(), job(image={"tag": "9"}), job(extraEnv={"LOG_LEVEL": "DEBUG"}), job(demo={"enabled": True})}
    assert len(names) == 4


def test_what_is_scaled_has_no_replicas_of_its_own() -> None:
    for name, kind in (("keda-values.yaml", "ScaledObject"), ("hpa-values.yaml", "HorizontalPodAutoscaler")):
        manifests = way(name)
        for queue in QUEUES:
            scaler = one(manifests, kind, f"press-pressroom-worker-{queue.name}")
            assert scaler["spec"]["scaleTargetRef"]["name"] == f"press-pressroom-worker-{queue.name}"
            assert "replicas" not in one(manifests, "Deployment", f"press-pressroom-worker-{queue.name}")["spec"]
    assert "replicas" not in one(way("ingress-values.yaml"), "Deployment", "press-pressroom-web")["spec"]


def test_settings_merge_and_the_nearest_wins() -> None:
    manifests = way("ingress-values.yaml")
    web = environment(pod_of(one(manifests, "Deployment", "press-pressroom-web")))
    emails = environment(pod_of(one(manifests, "Deployment", "press-pressroom-worker-emails")))
    assert (web["EMAIL_URL"], web["LOG_LEVEL"]) == ("smtp://mail.example.com", "WARNING")
    assert (emails["EMAIL_URL"], emails["LOG_LEVEL"]) == ({"secretKeyRef": {"name": "mail", "key": "url"}}, "WARNING")
    assert web["SENTRY_TRACES_SAMPLE_RATE"] == "0.1"


def test_behind_an_ingress_the_site_is_https_and_its_host_is_served() -> None:
    config = one(way("ingress-values.yaml"), "ConfigMap", "press-pressroom")["data"]
    assert config["SITE_URL"] == config["CSRF_TRUSTED_ORIGINS"] == "https://press.example.com"
    assert {"press.example.com", "www.example.com", "press-pressroom-web.news.svc"} < set(
        config["ALLOWED_HOSTS"].split(",")
    )
    assert (config["TRUST_PROXY"], config["NUM_PROXIES"]) == ("1", "1")
    config = one(render(), "ConfigMap", "press-pressroom")["data"]
    assert (config["TRUST_PROXY"], config["NUM_PROXIES"]) == ("0", "0")


def test_traces_are_sent_where_the_values_say() -> None:
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in one(render(), "ConfigMap", "press-pressroom")["data"]
    config = one(render({"tracing": {"endpoint": "http://collector:4318"}}), "ConfigMap", "press-pressroom")["data"]
    assert config["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"


def test_services_of_others() -> None:
    manifests = way("external-values.yaml")
    assert not [m for m in manifests if m["kind"] in ("StatefulSet", "Secret")]
    config = one(manifests, "ConfigMap", "press-pressroom")["data"]
    assert config["DATABASE_URL"] == (
        "postgres://press%20room@postgres.example.com:5432/pressroom"
        "?sslmode=verify-full&sslrootcert=/etc/pressroom/postgres/ca.crt"
    )
    assert (config["REDIS_URL"], config["REDIS_CA"]) == (
        "rediss://redis.example.com:6380", "/etc/pressroom/redis/ca.crt"
    )  # fmt: skip
    env = environment(pod_of(one(manifests, "Deployment", "press-pressroom-relay")))
    assert env["PGPASSWORD"] == {"secretKeyRef": {"name": "database", "key": "secret"}}
    assert env["REDIS_PASSWORD"] == {"secretKeyRef": {"name": "redis", "key": "password"}}
    assert env["SECRET_KEY"] == {"secretKeyRef": {"name": "django", "key": "SECRET_KEY"}}


def test_development_changes_how_processes_run_and_nothing_else() -> None:
    rendered = render(), render({"development": {"enabled": True}})
    production, development = ([found for found in all_ if found["kind"] != "Secret"] for all_ in rendered)
    changed = 0
    for before, after in zip(production, development, strict=True):
        if before["kind"] == "Deployment":
            changed += 1
            [was], [now] = pod_of(before)["containers"], pod_of(after)["containers"]
            *reloader, command = now["args"]
            assert (reloader, shlex.split(command)) == (["watchfiles", "--target-type", "command"], was["args"])
            assert now["securityContext"] == {**was["securityContext"], "readOnlyRootFilesystem": False}
            assert "livenessProbe" not in now
            now |= {name: was[name] for name in ("args", "securityContext", "livenessProbe")}
        # Beside it the migration, which has an end.
        assert after == before
    assert changed == 4 + len(QUEUES)


def test_a_change_of_settings_restarts_pods() -> None:
    def checksum(**values: Any) -> str:
        deployment = one(render(values), "Deployment", "press-pressroom-beat")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum(web={"replicas": 3})
    assert checksum() != checksum(site={"hosts": ["press.example.com"]})
