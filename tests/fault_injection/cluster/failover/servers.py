"""Servers that replicate, each in a Pod that is never started again, and what all of them have in common.

Their Services and secrets have the names of ``ci/cloudnativepg-values.yaml`` and ``ci/redis-failover-values.yaml``, so
the chart is installed with these files as they are. A Service leads to the one ready Pod with the label ``role``, as an
operator sets it.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from tests.e2e.cluster.external import RESTRICTED
from tests.e2e.cluster.kube import Namespace, succeeds, until
from tests.support.certificates import certificates

DATABASE, DATABASE_SECRET, DATABASE_CA = "press-db-pooler", "press-db-app", "press-db-ca"
REDIS, REDIS_SECRET = "press-redis-ha-haproxy", "press-redis-ha"
WRITABLE = ("/data", "/tmp", "/var/run/postgresql")  # noqa: S108 - in the pod


def common(namespace: str) -> list[dict[str, Any]]:
    """The Services and secrets."""
    made = certificates(f"{DATABASE}.{namespace}.svc")
    stored = {
        DATABASE_SECRET: {"password": secrets.token_urlsafe(16)}, DATABASE_CA: made,
        REDIS_SECRET: {"auth": secrets.token_urlsafe(16)},
    }  # fmt: skip
    return [
        *(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
            for name, data in stored.items()
        ),
        _service(DATABASE, "postgres", 5432), _service(REDIS, "redis", 6379),
    ]  # fmt: skip


def _service(name: str, app: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": app, "role": "primary"}, "ports": [{"port": port}]},
    }  # fmt: skip


def server(
    app: str, number: int, node: str, image: str, script: str, ready: str, password: tuple[str, str], **env: str
) -> dict[str, Any]:
    """A Pod ``<app>-<number>``. ``script`` starts the server as a child of the shell, so that a killed server ends it.

    ``ready`` is the shell command of its probe; ``password``, secret and key of the variable ``PASSWORD``.
    """
    secret, key = password
    container = {
        "name": app, "image": image, "imagePullPolicy": "IfNotPresent",
        # `exit` keeps the shell from replacing itself by the server: a process 1 cannot be killed from inside.
        "command": ["sh", "-euc", f"{script}\nexit"],
        "env": [
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}},
            *({"name": name, "value": value} for name, value in env.items()),
        ],
        "readinessProbe": {"exec": {"command": ["sh", "-c", ready]}, "periodSeconds": 1, "timeoutSeconds": 5},
        "securityContext": RESTRICTED,
        "volumeMounts": [
            *({"name": "data", "mountPath": path, "subPath": path[1:].replace("/", "-")} for path in WRITABLE),
            {"name": "ca", "mountPath": "/tls"}, {"name": "initdb", "mountPath": "/docker-entrypoint-initdb.d"},
        ],
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{app}-{number}", "labels": {"app": app}},
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "ca", "secret": {"secretName": DATABASE_CA, "defaultMode": 0o640}},
                {"name": "initdb", "configMap": {"name": "initdb", "optional": True}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    }  # fmt: skip


class Pair:
    """Two servers, of which one is the primary; ``number`` counts those that were started."""

    app = ""

    def __init__(self, namespace: Namespace, nodes: list[str]) -> None:
        self.namespace, self.nodes = namespace, nodes
        self.number = 0
        self.primary = self.standby = ""

    def pod(self, number: int) -> dict[str, Any]:
        """The Pod that follows the primary, or, while there is none, becomes it."""
        raise NotImplementedError

    def start(self) -> None:
        """Start both, and wait until the standby follows. Raises Failed."""
        raise NotImplementedError

    def follow(self) -> None:
        """Start a new standby, and wait until it follows. Raises Failed."""
        raise NotImplementedError

    def fail_over(self) -> tuple[float, float]:
        """Kill the primary, have the standby take over.

        Returns when the primary was killed and when the Service was switched over. Raises Failed.
        """
        raise NotImplementedError

    def node(self, number: int) -> str:
        """Not that of the one before."""
        return self.nodes[number % len(self.nodes)]

    def add(self) -> str:
        """Start one more, and wait until it is ready. Returns its name. Raises Failed."""
        self.number += 1
        name = f"{self.app}-{self.number}"
        self.namespace.apply(self.pod(self.number))
        self.namespace.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=180s")
        return name

    def switch(self, name: str) -> float:
        """Have the Service lead to it. Returns when that was asked for."""
        self.namespace.kubectl("label", "pod", name, "role=primary")
        self.primary, self.standby = name, ""
        return time.time()

    def kill(self) -> float:
        """Kill all that runs in the primary's Pod, with SIGKILL, and wait for its end. Returns when that began."""
        began = time.time()
        # The shell that kills is spared, and so is process 1, which ends with the server and may take that shell along.
        self.tries(self.primary, "kill -9 -1")
        phase = ["get", "pod", self.primary, "-o", "jsonpath={.status.phase}"]
        until(lambda: self.namespace.kubectl(*phase) in ("Failed", "Succeeded"), f"{self.primary} has ended")
        return began

    def fence(self) -> None:
        """Take the old primary's Pod away; it does not come back."""
        self.namespace.kubectl("delete", "pod", self.primary, "--grace-period=0", "--force")

    def address(self, name: str) -> str:
        return self.namespace.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}")

    def tries(self, name: str, script: str) -> bool:
        """Whether the shell script ends well in the Pod."""
        return succeeds("kubectl", "-n", self.namespace.name, "exec", name, "--", "sh", "-euc", script)
