"""The release under fire, the pod outside that calls it and keeps the books, and a Prometheus with our alerts."""

from __future__ import annotations

import json
import os
import random
import shlex
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from tests.chart.tools import CHART, ROOT
from tests.e2e.cluster import external
from tests.e2e.cluster.kube import Failed, Namespace, load_image, run, succeeds, until
from tests.e2e.cluster.stack import INSTALL, install, token
from tests.fault_injection.local.stack import TABLE

HERE = Path(__file__).resolve().parent
IMAGE, NEXT = "pressroom:chaos", "pressroom:chaos-next"
PROMETHEUS = "prom/prometheus:v2"
RELEASE = "press-pressroom"
TICK = 5
"""Seconds of the schedule that counts."""
LATE = 5
"""Seconds after which a due task that has not begun is late."""
CALM = 8.0
"""Seconds without anything wrong, after which a fault is over: what it took away is not missed at once."""
PATIENCE = 1800.0
VALUES = [*INSTALL, "--set=worker.terminationGracePeriodSeconds=30"]
# So many that what waits is a fault's doing.
FIXED = ["--set=workers.default.replicas=3"]
KEDA = [
    "--set=autoscaling.provider=keda", "--set=worker.autoscaling.minReplicas=1",
    "--set=worker.autoscaling.maxReplicas=4",
]  # fmt: skip
# The ledger's view, for the time that recovery takes; the verdict is the books'.
UNWELL = f"""
SELECT count(*) FROM taskruns_taskrun WHERE status IN ('queued', 'retrying')
    AND run_at < now() - interval '{LATE} s' OR status = 'running' AND started_at < now() - interval '20 s'
"""
# Of a client that is gone without a word: it keeps its locks, and vacuum from its work.
FORGOTTEN = """
SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND state_change < now() - interval '20 s'
"""


class Release:
    """What the faults are done to. ``rng`` chooses where there is a choice."""

    name = "pressroom-chaos"
    """Of its namespace; the caller's is called after it."""
    namespace_class = Namespace
    database = "press-postgres"
    """The Service of its Postgres."""
    database_secret = "press-postgres"

    def __init__(self, seed: str, rate: float, most: int, keda: bool) -> None:
        self.seed, self.rng = seed, random.Random(f"{seed} faults")
        self.rate, self.most, self.keda = rate, most, keda
        self.namespace = self.namespace_class(self.name)
        self.outside = Namespace(f"{self.name}-outside", restricted=False)
        self.nodes = [
            node["metadata"]["name"] for node in self.namespace.get("nodes")
            if not any(taint["effect"] == "NoSchedule" for taint in node["spec"].get("taints", []))
        ]  # fmt: skip
        self.image = IMAGE
        self.shell = node_shell()

    @property
    def weak(self) -> str | None:
        """The node that may go: neither Postgres nor the books are there. None where there is only one."""
        return self.nodes[1] if len(self.nodes) > 1 else None

    def start(self) -> None:
        """Install all of it, and wait until calls come. Raises Failed."""
        self.install(IMAGE)
        self.namespace.shell(
            "from django_celery_beat.models import IntervalSchedule, PeriodicTask\n"
            f"every = IntervalSchedule.objects.create(every={TICK}, period='seconds')\n"
            "PeriodicTask.objects.create(name='chaos', task='chaos.tick', interval=every)\n"
        )
        self.apply_prometheus()
        self.call()

    def call(self) -> None:
        """Start the caller, and wait until its calls come. Raises Failed."""
        self.namespace.psql(TABLE)
        self.apply_outside(token(self.namespace, minutes=24 * 60))
        self.outside.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=300s")
        until(lambda: len(self.book("acknowledged")) > 20, "calls come")

    def datastores(self) -> list[str]:
        """The chart's values for Postgres and Redis, as arguments."""
        pinned = f"--set=postgres.nodeSelector.kubernetes\\.io/hostname={self.nodes[0]}"
        return [pinned, "--set=postgres.maxConnections=300"]

    def install(self, image: str) -> None:
        """The chart with that image: an upgrade where it is there."""
        books = f"--set=extraEnv.ORACLE_FOLDER=http://books.{self.outside.name}.svc:8080"
        scaling = KEDA if self.keda else FIXED
        install(self.namespace, *VALUES, *scaling, books, *self.datastores(), image=image, timeout="10m")
        self.image = image

    def apply_outside(self, author: str) -> None:
        url = f"http://{RELEASE}-web.{self.namespace.name}.svc"
        code = {
            "load_client.py": HERE / "load_client.py",
            "calls.py": ROOT / "tests" / "fault_injection" / "local" / "calls.py",
        }
        arguments = [url, author, self.seed, str(self.rate), str(self.most)]
        self.outside.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"},
             "data": {name: path.read_text() for name, path in code.items()}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "books"},
             "spec": {"selector": {"app": "books"}, "ports": [{"port": 8080}]}},
            pod(
                "books", self.nodes[0], IMAGE, ["python", "/code/load_client.py", *arguments], "/code", "code", "/books"
            ),
        )  # fmt: skip

    def apply_prometheus(self) -> None:
        """It scrapes every pod's port ``metrics``, as the chart's PodMonitor says it."""
        roles = {"serviceAccountName": "default"}
        keep = [
            {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "metrics", "action": "keep"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ]
        config = {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"}, "rule_files": ["/code/alerts.yaml"],
            "scrape_configs": [{
                "job_name": "pressroom", "relabel_configs": keep,
                "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [self.namespace.name]}}],
            }],
        }  # fmt: skip
        alerts = (CHART / "files" / "alerts.yaml").read_text()
        reader = {"kind": "ServiceAccount", "name": "default", "namespace": self.outside.name}
        self.namespace.apply(
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "prometheus"},
             "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "prometheus"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "prometheus"},
             "subjects": [reader]},
        )  # fmt: skip
        command = ["prometheus", "--config.file=/code/prometheus.yml", "--storage.tsdb.path=/data"]
        made = pod("prometheus", self.nodes[0], PROMETHEUS, command, "/code", "alerts", "/data", **roles)
        self.outside.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "alerts"},
             "data": {"prometheus.yml": yaml.safe_dump(config), "alerts.yaml": alerts}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prometheus"},
             "spec": {"selector": {"app": "prometheus"}, "ports": [{"port": 9090}]}},
            made,
        )  # fmt: skip

    def alerts(self, begin: float, end: float) -> list[str]:
        """Names of those that were firing between the two moments."""
        asked = {"query": 'ALERTS{alertstate="firing"}', "start": begin, "end": end, "step": 5}
        with self.outside.forward("prometheus", 9090) as url:
            answer = httpx.get(f"{url}/api/v1/query_range", params=asked, timeout=30).raise_for_status().json()
        return sorted({one["metric"]["alertname"] for one in answer["data"]["result"]})

    def ask_outside(self, name: str, text: str = "") -> None:
        """Leave a file for the caller; it is there whole or not at all."""
        write = f"cat >/books/.{name} && mv /books/.{name} /books/{name}"
        self.outside.kubectl("exec", "-i", "books", "--", "sh", "-c", write, given=text)

    def has(self, name: str) -> bool:
        return name in self.outside.kubectl("exec", "books", "--", "ls", "/books").split()

    def book(self, name: str) -> list[str]:
        """Its lines; none where nothing is written yet."""
        read = f"cat /books/{name} 2>/dev/null || true"
        return self.outside.kubectl("exec", "books", "--", "sh", "-c", read).splitlines()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """To the release's Postgres, for as long as the block lasts."""
        secret = json.loads(self.namespace.kubectl("get", "secret", self.database_secret, "-o", "json"))["data"]
        with self.namespace.forward(self.database, 5432) as url:
            host, _, port = url.removeprefix("http://").partition(":")
            with psycopg.connect(
                host=host, port=port, user="pressroom", dbname="pressroom", autocommit=True,
                password=b64decode(secret["password"]).decode(),
            ) as connection:  # fmt: skip
                yield connection

    def pods(self, component: str) -> list[str]:
        """Names of those that are ready."""
        found = self.namespace.get("pods", "-l", f"app.kubernetes.io/component={component}")
        return [
            one["metadata"]["name"] for one in found
            if "deletionTimestamp" not in one["metadata"]
            and all(status["ready"] for status in one["status"].get("containerStatuses", [{"ready": False}]))
        ]  # fmt: skip

    def some_pod(self, component: str) -> str:
        return self.rng.choice(until(lambda: self.pods(component), f"a pod of {component} is ready", timeout=300.0))

    def unfinished(self) -> int:
        """How many runs may still do something."""
        live = "SELECT count(*) FROM taskruns_taskrun WHERE status IN ('queued', 'retrying', 'running')"
        return int(self.namespace.psql(live))

    def unwell(self) -> str:
        """What is not as it should be: a pod not ready, a task late, a transaction of nobody open. Empty: nothing."""
        if unready := self.namespace.unready():
            return unready
        try:
            late, forgotten = self.namespace.psql(f"{UNWELL};{FORGOTTEN}").splitlines()
        except Failed as error:
            return str(error)
        told = {"tasks are late": late, "transactions of nobody are open": forgotten}
        return ", ".join(f"{count} {what}" for what, count in told.items() if count != "0")

    def settle(self, after: str, patience: float = PATIENCE) -> float:
        """Wait until all is well and has been for CALM seconds. Returns the moment from which it was. Raises Failed."""
        deadline, since = time.time() + patience, None
        while since is None or time.time() - since < CALM:
            unwell = self.unwell()
            if time.time() > deadline:
                raise Failed(f"not within {patience:g} s, after: {after}: {unwell}")
            since = None if unwell else since or time.time()
            time.sleep(0.5)
        return since

    def on_node(self, node: str, script: str) -> str:
        """Run a shell script on a node."""
        if self.shell is None:
            raise Failed("NODE_SHELL: the command that takes a script to run on {node}")
        return run(*(part.replace("{node}", node) for part in self.shell), f"NODE={node}\n{script}")

    def delete(self) -> None:
        for namespace in (self.namespace, self.outside):
            namespace.delete()


def node_shell() -> list[str] | None:
    """The command that opens a shell on ``{node}`` and takes a script: NODE_SHELL, or kind's way; None: not known."""
    given = os.environ.get("NODE_SHELL")
    if given is None and run("kubectl", "config", "current-context").startswith("kind-"):
        nodes = run("kubectl", "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
        # Another cluster may have a context of that name.
        if succeeds("docker", "container", "inspect", *nodes):
            given = "docker exec -i {node} sh -c"
    return shlex.split(given) if given else None


def build(*public: str, upgrade: bool = True) -> None:
    """The images; the cluster gets them, and those of ``public`` that are on this machine, which need not be pulled.

    Without ``upgrade`` there is no NEXT.
    """
    run("docker", "build", "--network", "host", "-t", "pressroom:e2e", ".", timeout=1800.0)
    tests, plain = ROOT / "tests", "BASE=pressroom:e2e"
    run("docker", "build", "-t", IMAGE, "--build-arg", plain, "-f", f"{HERE}/image/Dockerfile", str(tests))
    if upgrade:
        run("docker", "build", "-t", NEXT, "--build-arg", f"BASE={IMAGE}", str(tests / "e2e" / "cluster" / "next"))
        load_image(NEXT)
    load_image(IMAGE, *(image for image in public if succeeds("docker", "image", "inspect", image)))


def pod(
    name: str, node: str, image: str, command: list[str], path: str, code: str, data: str, **more: Any
) -> dict[str, Any]:
    """One on a node, with a ConfigMap at ``path`` and room at ``data``."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            **more, "nodeName": node, "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001,
                                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": command,
                "securityContext": external.RESTRICTED,
                "volumeMounts": [{"name": "code", "mountPath": path}, {"name": "data", "mountPath": data}],
            }],
            "volumes": [{"name": "code", "configMap": {"name": code}}, {"name": "data", "emptyDir": {}}],
        },
    }  # fmt: skip
