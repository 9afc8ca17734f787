"""What an upgrade keeps of what runs, and what it refuses because it could not work."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from app.queues import QUEUES
from tests.chart.api_server import upgrade
from tests.chart.tools import Manifest, Refused, one, render

HELMS = ["HELM", "HELM3"]
WORKERS = [f"worker-{queue.name}" for queue in QUEUES]


def running(**replicas: int) -> list[Manifest]:
    """Deployments with so many pods; ``worker_emails`` for worker-emails."""
    return [
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": f"press-pressroom-{name.replace('_', '-')}", "namespace": "news"},
            "spec": {"replicas": number},
        }
        for name, number in replicas.items()
    ]  # fmt: skip


def replicas(manifests: list[Manifest], component: str) -> int | None:
    spec = one(manifests, "Deployment", f"press-pressroom-{component}")["spec"]
    return spec.get("replicas")


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("provider", ["keda", "hpa"])
def test_turning_scaling_on_keeps_the_pods_that_run(provider: str, helm: str) -> None:
    """Without the field Kubernetes takes its default, 1, and two of three pods end under load."""
    pods = running(**{name.replace("-", "_"): 3 for name in WORKERS})
    manifests = upgrade({"autoscaling": {"provider": provider}}, *pods, version=helm)
    assert [replicas(manifests, name) for name in WORKERS] == [3] * len(WORKERS)


def test_web_keeps_its_pods_too() -> None:
    manifests = upgrade({"web.autoscaling": {"enabled": True}}, *running(web=5))
    assert replicas(manifests, "web") == 5


def test_what_is_scaled_follows_the_scaler_and_not_an_earlier_release() -> None:
    """KEDA had scaled to 0, and to 4; a HorizontalPodAutoscaler leaves 0 alone; a raised minimum holds at once."""
    keda: dict[str, Any] = {"autoscaling": {"provider": "keda"}, "worker.autoscaling": {"minReplicas": 0}}
    found = upgrade(keda, *running(worker_emails=0, worker_default=4))
    assert (replicas(found, "worker-emails"), replicas(found, "worker-default")) == (0, 4)
    hpa = {"autoscaling": {"provider": "hpa"}, "worker.autoscaling": {"minReplicas": 0}}
    assert replicas(upgrade(hpa, *running(worker_emails=0)), "worker-emails") == 1
    raised = {"autoscaling": {"provider": "keda"}, "worker.autoscaling": {"minReplicas": 2}}
    assert replicas(upgrade(raised, *running(worker_emails=1)), "worker-emails") == 2


def test_a_new_deployment_leaves_the_number_to_its_scaler() -> None:
    assert replicas(upgrade({"autoscaling": {"provider": "keda"}}), "worker-emails") is None
    assert replicas(upgrade({}, *running(web=9)), "web") == 2


def statefulset(name: str, size: str | None, storage_class: str | None = None) -> Manifest:
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "resources": {"requests": {"storage": size}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": "news"},
        "spec": {"volumeClaimTemplates": [claim]} if size else {},
    }  # fmt: skip


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(
    ("values", "present", "reasons"),
    [
        (
            {"postgres.persistence": {"size": "20Gi"}},
            statefulset("press-postgres", "10Gi"),
            ["postgres.persistence.size is 20Gi", "installed with 10Gi", "patch pvc data-press-postgres-0",
             '"storage": "20Gi"', "delete statefulset press-postgres --cascade=orphan"],
        ),
        ({}, statefulset("press-redis", "8Gi"), ["redis.persistence.size is 2Gi"]),
        ({}, statefulset("press-redis", None), ["redis.persistence.enabled is true", "was installed with false"]),
        (
            {"postgres.persistence": {"enabled": False}},
            statefulset("press-postgres", "10Gi"),
            ["postgres.persistence.enabled is false"],
        ),
        (
            {"postgres.persistence": {"storageClass": "fast"}},
            statefulset("press-postgres", "10Gi", "slow"),
            ["postgres.persistence.storageClass is fast", 'installed with "slow"'],
        ),
    ],
)  # fmt: skip
def test_another_volume_is_refused(values: Manifest, present: Manifest, reasons: list[str], helm: str) -> None:
    with pytest.raises(Refused) as caught:
        upgrade(values, present, version=helm)
    for reason in reasons:
        assert reason in str(caught.value)


def test_the_same_volume_is_not() -> None:
    upgrade({}, statefulset("press-postgres", "10Gi", "of-the-cluster"), statefulset("press-redis", "2Gi"))


@pytest.mark.parametrize("helm", HELMS)
def test_values_of_another_chart_are_refused(helm: str) -> None:
    """`helm upgrade --reuse-values` passes the old chart's defaults, in which new sections are missing."""
    for old in ({"global": None}, {"global.chartVersion": "0.0.9"}):
        with pytest.raises(Refused) as caught:
            render(old, "--is-upgrade", version=helm)
        assert "--reset-then-reuse-values" in str(caught.value)
    render({}, "--is-upgrade", version=helm)


def job(condition: str | None) -> Manifest:
    [name] = [manifest["metadata"]["name"] for manifest in render() if manifest["kind"] == "Job"]
    conditions = [{"type": condition, "status": "True", "reason": "BackoffLimitExceeded", "message": "10 times"}]
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "news"},
        "status": {"conditions": conditions} if condition else {"active": 1},
    }  # fmt: skip


@pytest.mark.parametrize("helm", HELMS)
def test_a_migration_that_has_failed_is_not_waited_for(helm: str) -> None:
    failed = job("Failed")
    with pytest.raises(Refused) as caught:
        upgrade({}, failed, version=helm)
    for reason in ("BackoffLimitExceeded: 10 times", f"kubectl -n news delete job {failed['metadata']['name']}"):
        assert reason in str(caught.value)
    upgrade({}, job("Complete"), version=helm)
    upgrade({}, job(None), version=helm)
    upgrade({"image": {"tag": "next"}}, failed, version=helm)


def test_generated_secrets_are_found_again() -> None:
    kept = base64.b64encode(b"kept").decode()
    names = {"press-pressroom": "SECRET_KEY", "press-redis": "password", "press-postgres": "password"}
    present = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "news"}, "data": {key: kept}}
        for name, key in names.items()
    ]
    manifests = upgrade({}, *present)
    assert {name: one(manifests, "Secret", name)["data"] for name in names} == {
        name: {key: kept} for name, key in names.items()
    }


def test_secrets_are_not_generated_where_nobody_finds_them_again() -> None:
    """Argo CD and `helm template` ask no cluster: each rendering would lock the pods out."""
    with pytest.raises(Refused) as caught:
        render({"secrets": {"generate": False}})
    for name in ("existingSecret (SECRET_KEY)", "redis.auth.existingSecret", "postgres.auth.existingSecret"):
        assert name in str(caught.value)
    with pytest.raises(Refused, match=r"set redis\.auth\.existingSecret \(password\)\."):
        render({"secrets.generate": False, "existingSecret": "a", "postgres.auth.existingSecret": "c"})
    own = {"existingSecret": "a", "redis.auth.existingSecret": "b", "postgres.auth.existingSecret": "c"}
    once, again = (render({"secrets.generate": False, **own}, f"--description={number}") for number in (1, 2))
    assert once == again
    assert not [manifest for manifest in once if manifest["kind"] == "Secret"]
    external = {
        "redis": {"enabled": False}, "externalRedis": {"url": "redis://r"}, "postgres": {"enabled": False},
        "externalDatabase": {"host": "db", "existingSecret": "db"},
    }  # fmt: skip
    render({"secrets.generate": False, "existingSecret": "a", **external})


def test_the_rollout_is_given_up_after_the_migration_not_before() -> None:
    for values, seconds in (({}, 1200), ({"migrate": {"wait": 3000}}, 3600), ({"progressDeadlineSeconds": 7200}, 7200)):
        deployments = [manifest for manifest in render(values) if manifest["kind"] == "Deployment"]
        assert {manifest["spec"]["progressDeadlineSeconds"] for manifest in deployments} == {seconds}
    with pytest.raises(Refused, match="progressDeadlineSeconds"):
        render({"progressDeadlineSeconds": 600})


def test_the_migrations_job_can_be_deleted_by_itself() -> None:
    def spec(**values: Any) -> Manifest:
        return dict(one(render(values), "Job", "press-pressroom-migrate")["spec"])

    assert "ttlSecondsAfterFinished" not in spec()
    assert spec(migrate={"ttlSecondsAfterFinished": 0})["ttlSecondsAfterFinished"] == 0


def test_a_pod_that_never_gets_ready_does_not_keep_a_node() -> None:
    budgets = [one for one in render({"worker": {"replicas": 3}}) if one["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 1 + len(QUEUES)
    assert {budget["spec"]["unhealthyPodEvictionPolicy"] for budget in budgets} == {"AlwaysAllow"}
