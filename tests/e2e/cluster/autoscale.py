"""``make e2e-autoscale``: workers that follow their queue, by KEDA and by a plain HPA, beside CPU and `LLEN`.

The tasks note each start and end in a table of their own: from it is told what was lost, interrupted or run twice.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chart.tools import ROOT
from tests.e2e.cluster import external
from tests.e2e.cluster.kube import Failed, Namespace, Steps, in_a_namespace, need, need_keda, run, succeeds, until
from tests.e2e.cluster.picture import draw
from tests.e2e.cluster.stack import IMAGE, build, install, token
from tests.support.certificates import certificates

HERE = Path(__file__).resolve().parent
WAITS = "pressroom:e2e-waits"
WORKER = "press-pressroom-worker-emails"
TASKS = int(os.environ.get("TASKS", "2000"))
SECONDS = 2.0
"""That each of them waits."""
MOST = 10
"""Replicas."""
PATIENCE = 900.0
"""Seconds for a burst on a scaler that may not scale at all."""
EXTERNAL = "v1beta1.external.metrics.k8s.io"
VALUES = [
    "--set=worker.terminationGracePeriodSeconds=30", "--set=postgres.maxConnections=300",
    "--set=extraEnv.THROTTLE_REPORTS=100000/hour",
]  # fmt: skip


@dataclass
class Sample:
    """What was to be seen at a moment, in seconds from the start."""

    at: float
    depth: int
    replicas: int
    ready: int


@dataclass
class Watched:
    """A queue's depth and its workers, once a second while the block lasts."""

    samples: list[Sample] = field(default_factory=list)

    def replica_seconds(self, end: float) -> float:
        """Of the pods that there were, from the start to ``end`` seconds after it."""
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return sum(before.replicas * (min(after.at, end) - before.at) for before, after in pairs if before.at < end)


@contextmanager
def watching(namespace: Namespace, queue: str) -> Iterator[Watched]:
    watched, stop = Watched(), threading.Event()
    started = time.monotonic()

    def watch(url: str) -> None:
        while not stop.wait(1.0):
            try:
                depth = httpx.get(f"{url}/queues/{queue}", timeout=10).raise_for_status().json()["depth"]
                status = worker(namespace, queue)
            except (httpx.HTTPError, Failed) as error:
                print(f"  no sample: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            at = time.monotonic() - started
            watched.samples.append(Sample(at, depth, status.get("replicas", 0), status.get("readyReplicas", 0)))

    with namespace.forward("press-pressroom-exporter", 9808) as url:
        thread = threading.Thread(target=watch, args=(url,))
        thread.start()
        try:
            yield watched
        finally:
            stop.set()
            thread.join()


def enqueue(namespace: Namespace, count: int, seconds: float) -> None:
    """So many tasks, stored in one transaction, on an empty table of notes."""
    namespace.psql("TRUNCATE e2e_notes")
    namespace.shell(
        "from django.db import transaction; from e2e_tasks import wait\n"
        "with transaction.atomic():\n"
        f"    for _ in range({count}): wait.apply_async(({seconds},), queue='emails')\n"
    )


@dataclass(frozen=True)
class Told:
    """What the tasks themselves said."""

    begun: int
    """Of how many a start is noted."""
    ended: int
    doubled: int
    """Of how many two ends are noted."""
    interrupted: int
    """Starts after a first one."""
    last: float
    """When the last end was, by the database's clock."""

    def of(self, count: int) -> str:
        """In a line. Raises Failed where one was lost or ended twice."""
        lost = count - self.ended
        line = f"{count} tasks, lost {lost}, doubled {self.doubled}, interrupted {self.interrupted}"
        if lost or self.doubled:
            raise Failed(line)
        return line


def told(namespace: Namespace) -> Told:
    # A run without a begin is one that the burst before left behind.
    found = namespace.psql(
        "SELECT count(*), count(*) FILTER (WHERE ended > 0), count(*) FILTER (WHERE ended > 1), "
        "coalesce(sum(begun - 1), 0), coalesce(extract(epoch FROM max(last)), 0) FROM (SELECT "
        "count(*) FILTER (WHERE what = 'begun') AS begun, count(*) FILTER (WHERE what = 'ended') AS ended, "
        "max(at) AS last FROM e2e_notes GROUP BY run) AS runs WHERE begun > 0",
    ).split("|")
    return Told(*map(int, found[:4]), last=float(found[4]))


@dataclass
class Burst:
    """A burst of waiting tasks, and how it went."""

    title: str
    samples: list[Sample]
    line: str
    seconds: float | None
    """From the call to the last end; None where that was not waited for."""
    replica_seconds: float


def burst(
    namespace: Namespace, title: str, *, count: int = TASKS, seconds: float = SECONDS, back_to: int | None = None,
    patience: float = PATIENCE,
) -> Burst:  # fmt: skip
    """Run one. With ``back_to`` wait until there are so few workers again. Raises Failed where one was lost."""
    with watching(namespace, "emails") as watched:
        started, clock = time.monotonic(), float(namespace.psql("SELECT extract(epoch FROM clock_timestamp())"))
        enqueue(namespace, count, seconds)
        stored = time.monotonic() - started

        def done() -> bool:
            return bool(watched.samples) and watched.samples[-1].at > stored + 2 and not watched.samples[-1].depth

        try:
            until(done, f"{count} tasks of {seconds:g} s end", timeout=patience)
        except Failed:
            end, found = time.monotonic() - started, told(namespace)
            left = f"{count - found.ended} of {count} left after {end:.0f} s, interrupted {found.interrupted}"
            return Burst(title, watched.samples, left, None, watched.replica_seconds(end))
        found = told(namespace)
        if back_to is not None:
            until(lambda: watched.samples[-1].replicas == back_to, f"{back_to} workers again", timeout=600.0)
    taken = found.last - clock
    return Burst(title, watched.samples, found.of(count), taken, watched.replica_seconds(taken))


def picture(one: Burst) -> Path:
    """The burst over time, for the documents. Returns its path in the project."""
    path = ROOT / "docs" / "images" / "autoscaling.svg"
    draw(
        f"{TASKS} tasks of {SECONDS:g} s: workers scaled on the queue's depth, by KEDA", TASKS,
        [(sample.at, sample.depth, sample.replicas, sample.ready) for sample in one.samples], path,
    )  # fmt: skip
    return path.relative_to(ROOT)


def table(bursts: list[Burst]) -> str:
    """Time and pods of each, side by side."""
    head = f"{'scaled on':34}{'done after':>12}{'pods × s':>10}{'most':>6}  "
    lines = [
        f"{one.title:34}{f'{one.seconds:.0f} s' if one.seconds else '-':>12}{one.replica_seconds:10.0f}"
        f"{max(sample.replicas for sample in one.samples):6}  {one.line}"
        for one in bursts
    ]
    return "\n".join([head, *lines])


def course(one: Burst, every: float = 20.0) -> str:
    """A line for every so many seconds."""
    lines = [f"{'s':>6}{'depth':>8}{'pods':>6}{'ready':>7}{'ended':>8}"]
    shown, called = -every, False
    for sample in one.samples:
        called = called or sample.depth > 0
        if sample.at - shown >= every:
            shown = sample.at
            ended = TASKS - sample.depth if called else 0
            lines.append(f"{sample.at:6.0f}{sample.depth:8}{sample.replicas:6}{sample.ready:7}{ended:8}")
    return "\n".join(lines)


def scaled_by(namespace: Namespace, provider: str, *more: str) -> None:
    install(
        namespace, *VALUES, f"--set=autoscaling.provider={provider}", *more, image=WAITS,
    )  # fmt: skip


KEDA = ["--set=worker.autoscaling.minReplicas=0", "--set=worker.autoscaling.maxReplicas=2",
        f"--set=workers.emails.autoscaling.maxReplicas={MOST}"]  # fmt: skip
HPA = ["--set=worker.autoscaling.minReplicas=1", *KEDA[1:]]


def behavior(namespace: Namespace) -> dict[str, Any]:
    """The chart's own, so that what is compared differs in the figure alone."""
    [found] = [one for one in namespace.get("scaledobjects.keda.sh") if one["metadata"]["name"] == WORKER]
    kept: dict[str, Any] = found["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return kept


def on_cpu(behaviour: dict[str, Any]) -> dict[str, Any]:
    """What `kubectl autoscale` makes, with the chart's behaviour."""
    return {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "cpu"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": WORKER},
            "minReplicas": 1, "maxReplicas": MOST, "behavior": behaviour,
            "metrics": [
                {"type": "Resource",
                 "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
            ],
        },
    }  # fmt: skip


def on_llen(namespace: Namespace, behaviour: dict[str, Any]) -> list[dict[str, Any]]:
    """KEDA's own Redis scaler on the queue's list."""
    return [
        {
            "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "llen"},
            "spec": {"secretTargetRef": [{"parameter": "password", "name": "press-redis", "key": "password"}]},
        },
        {
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "llen"},
            "spec": {
                "scaleTargetRef": {"name": WORKER}, "minReplicaCount": 0, "maxReplicaCount": MOST,
                "pollingInterval": 5, "cooldownPeriod": 60,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
                "triggers": [
                    {
                        "type": "redis", "authenticationRef": {"name": "llen"},
                        "metadata": {
                            "address": f"press-redis.{namespace.name}.svc:6379", "listName": "emails",
                            "listLength": "2",
                        },
                    }
                ],
            },
        },
    ]  # fmt: skip


@contextmanager
def set_by_hand(namespace: Namespace) -> Iterator[Callable[[int], None]]:
    """Give a function that sets the number of workers, which KEDA leaves alone for as long as the block lasts."""
    paused = ["annotate", "--overwrite", "scaledobject", WORKER]
    name = "autoscaling.keda.sh/paused-replicas"

    def replicas(number: int) -> None:
        namespace.kubectl(*paused, f"{name}={number}")
        until(lambda: worker(namespace).get("readyReplicas", 0) == number, f"{number} workers are ready")

    try:
        yield replicas
    finally:
        namespace.kubectl("annotate", "scaledobject", WORKER, f"{name}-")


def scale_in(namespace: Namespace, seconds: float, count: int) -> str:
    """Half of ten busy workers are taken away. Raises Failed where a task was lost."""
    with set_by_hand(namespace) as replicas:
        replicas(MOST)
        enqueue(namespace, count, seconds)
        until(lambda: told(namespace).begun >= min(count, MOST), "they run")
        replicas(MOST // 2)
        until(lambda: told(namespace).ended == count, f"{count} tasks end", timeout=600.0)
    line = told(namespace).of(count)
    gap = namespace.psql(
        # A release makes a run due: from that moment on.
        "SELECT round(max(extract(epoch FROM again.at - run.run_at)), 1) FROM taskruns_taskrun run JOIN "
        "(SELECT run, max(at) AS at FROM e2e_notes WHERE what = 'begun' GROUP BY run HAVING count(*) > 1) again "
        "ON again.run::text = run.celery_id",
    )
    again = f", started again within {gap} s" if gap else ""
    return f"tasks of {seconds:g} s, {MOST} workers to {MOST // 2}: {line}{again}"


def reports(namespace: Namespace, count: int) -> str:
    """So many PDFs, ordered over HTTP and opened. Raises Failed."""
    with watching(namespace, "reports") as watched, namespace.forward("press-pressroom-web", 80) as url:
        started = time.monotonic()
        headers = {"Authorization": f"Bearer {token(namespace)}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
            body = {"type": "activity", "period": time.strftime("%Y-%m"), "format": "pdf"}
            orders = [client.post("/api/reports/", json=body).raise_for_status().json() for _ in range(count)]
            addresses = [httpx.URL(order["report"]).path for order in orders]

            def made() -> list[str] | None:
                found = [client.get(path).raise_for_status().json() for path in addresses]
                failed = [one for one in found if one["status"] == "failed"]
                if failed:
                    raise Failed(f"{len(failed)} reports failed: {failed[0]}")
                links = [one["download"] for one in found if one["download"]]
                return links if len(links) == count else None

            links = until(made, f"{count} reports", timeout=PATIENCE)
            taken = time.monotonic() - started
            for link in links:
                content = client.get(httpx.URL(link).raw_path.decode()).raise_for_status().content
                if not content.startswith(b"%PDF-") or b"%%EOF" not in content[-32:]:
                    raise Failed(f"{link} is no whole PDF")
        until(lambda: watched.samples[-1].replicas == 0, "no worker is left", timeout=600.0)
    most = max(sample.replicas for sample in watched.samples)
    pods = f"0 to {most} workers and back, {watched.replica_seconds(taken):.0f} pods × s"
    return f"{count} PDFs whole after {taken:.0f} s, {pods}"


@contextmanager
def external_metrics(namespace: Namespace) -> Iterator[None]:
    """An external metrics API on the exporter, in place of KEDA's for as long as the block lasts."""
    host = f"external-metrics.{namespace.name}.svc"
    there = succeeds("kubectl", "get", "apiservice", EXTERNAL)
    kept = json.loads(run("kubectl", "get", "apiservice", EXTERNAL, "-o", "json")) if there else None
    labels, pair = {"app": "external-metrics"}, ("/tls/tls.crt", "/tls/tls.key")
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "external-metrics"},
         "stringData": certificates(host)},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "external-metrics"},
         "data": {"serve.py": (HERE / "external_metrics.py").read_text()}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "external-metrics"},
         "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "external-metrics", "labels": labels},
         "spec": {
             "automountServiceAccountToken": False,
             "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
             "containers": [{
                 "name": "serve", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["python", "/code/serve.py", "http://press-pressroom-exporter:9808", *pair],
                 "securityContext": external.RESTRICTED,
                 "readinessProbe": {"tcpSocket": {"port": 8443}},
                 "volumeMounts": [{"name": "code", "mountPath": "/code"}, {"name": "tls", "mountPath": "/tls"}],
             }],
             "volumes": [{"name": "code", "configMap": {"name": "external-metrics"}},
                         {"name": "tls", "secret": {"secretName": "external-metrics", "defaultMode": 0o440}}],
         }},
    )  # fmt: skip
    namespace.kubectl("wait", "--for=condition=Ready", "pod/external-metrics", "--timeout=120s")
    ours = {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": EXTERNAL},
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
            "versionPriority": 100, "insecureSkipTLSVerify": True,
            "service": {"name": "external-metrics", "namespace": namespace.name, "port": 443},
        },
    }  # fmt: skip
    replace_api(ours)
    try:
        run("kubectl", "wait", "--for=condition=Available", f"apiservice/{EXTERNAL}", "--timeout=60s")
        yield
    finally:
        replace_api(kept)


def replace_api(wanted: dict[str, Any] | None) -> None:
    run("kubectl", "delete", "apiservice", EXTERNAL, "--ignore-not-found")
    if wanted is not None:
        kept = {key: value for key, value in wanted["metadata"].items() if key in ("name", "labels", "annotations")}
        wanted = {**wanted, "metadata": kept}
        wanted.pop("status", None)
        run("kubectl", "create", "-f", "-", given=json.dumps(wanted))


def scenes(steps: Steps, namespace: Namespace, bursts: list[Burst]) -> None:
    """All of it. Raises Failed."""
    title = f"{TASKS} tasks of {SECONDS:g} s"
    with steps.step("images built and loaded"):
        build(WAITS, HERE / "waits")
    with steps.step("install, KEDA from 0 workers") as found:
        scaled_by(namespace, "keda", *KEDA)
        namespace.psql(f"CREATE TABLE {notes_table()}")
        until(lambda: not worker(namespace).get("replicas"), "no worker is there", timeout=300.0)
        behaviour = behavior(namespace)
    with steps.step(f"{title}: depth, KEDA, from 0 and back to 0") as found:
        bursts.append(burst(namespace, "depth (due + running), KEDA", back_to=0))
        found.append(bursts[-1].line)
        found.append(f"written: {picture(bursts[-1])}")
    with steps.step("half of the workers are taken away") as found:
        found += [scale_in(namespace, 2.0, 200), scale_in(namespace, 60.0, MOST)]
    with steps.step("10 tasks of 110 s: depth, KEDA") as found:
        bursts.append(burst(namespace, "10 × 110 s: depth, KEDA", count=10, seconds=110.0, patience=400.0))
        found.append(bursts[-1].line)
    with steps.step("100 PDFs, from 0 and back to 0") as found:
        found.append(reports(namespace, 100))
    with steps.step(f"{title}: depth, HPA on an external metric") as found, external_metrics(namespace):
        scaled_by(namespace, "hpa", *HPA)  # from the 0 that KEDA leaves
        bursts.append(burst(namespace, "depth (due + running), HPA", back_to=1))
        found.append(bursts[-1].line)
    with steps.step(f"{title}: LLEN, KEDA's Redis scaler") as found:
        scaled_by(namespace, "none", "--set=workers.emails.replicas=1")
        namespace.apply(*on_llen(namespace, behaviour))
        until(lambda: not worker(namespace).get("replicas"), "no worker is there", timeout=300.0)
        bursts.append(burst(namespace, "LLEN, KEDA"))
        found.append(bursts[-1].line)
    with steps.step("10 tasks of 110 s: LLEN") as found:
        bursts.append(burst(namespace, "10 × 110 s: LLEN, KEDA", count=10, seconds=110.0, patience=400.0))
        found.append(bursts[-1].line)
        namespace.kubectl("delete", "scaledobject", "llen", "--wait")
    with steps.step(f"{title}: CPU") as found:
        scaled_by(namespace, "none", "--set=workers.emails.replicas=1")
        until(lambda: worker(namespace).get("replicas") == 1, "one worker is there", timeout=300.0)
        namespace.apply(on_cpu(behaviour))
        bursts.append(burst(namespace, "CPU at 80 %, HPA"))
        found.append(bursts[-1].line)
        namespace.kubectl("delete", "hpa", "cpu", "--wait")


def notes_table() -> str:
    """As the tasks' own module names its columns."""
    text = (HERE / "waits" / "e2e_tasks.py").read_text()
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("NOTES = "))


def worker(namespace: Namespace, queue: str = "emails") -> dict[str, int]:
    """The status of the queue's Deployment."""
    deployment = f"press-pressroom-worker-{queue}"
    status: dict[str, int] = json.loads(namespace.kubectl("get", "deploy", deployment, "-o", "json"))["status"]
    return status


def main() -> int:
    need("kubectl", "docker")
    need_keda()
    bursts: list[Burst] = []
    try:
        return in_a_namespace("pressroom-e2e-autoscale", lambda steps, namespace: scenes(steps, namespace, bursts))
    finally:
        if bursts:
            print(f"\n{table(bursts)}\n\n{course(bursts[0])}")


if __name__ == "__main__":
    sys.exit(main())
