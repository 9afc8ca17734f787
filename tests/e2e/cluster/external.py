"""A Redis and a Postgres that the chart did not make, reached by TLS with an authority of their own."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.cluster.kube import Namespace
from tests.support.certificates import certificates

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def start(namespace: Namespace, password: str) -> list[str]:
    """Start both, which take nothing but TLS. Returns the arguments with which the chart is installed on them."""
    redis, postgres = (f"{name}.{namespace.name}.svc" for name in ("redis", "postgres"))
    objects: list[dict[str, Any]] = [
        {"kind": "Secret", "metadata": {"name": "tls"}, "stringData": certificates(redis, postgres)},
        {"kind": "Secret", "metadata": {"name": "external"}, "stringData": {"password": password}},
        *_server(
            "redis", "redis:8", 6379,
            command=[
                "redis-server", "--port", "0", "--tls-port", "6379",
                "--tls-cert-file", "/tls/tls.crt",
                "--tls-key-file", "/tls/tls.key", "--tls-ca-cert-file", "/tls/ca.crt",
                "--tls-auth-clients", "no",
                "--requirepass", "$(PASSWORD)", "--maxmemory-policy", "noeviction",
            ],
        ),
        *_server(
            "postgres", "postgres:17", 5432,
            args=[
                "postgres", "-c", "ssl=on", "-c", "ssl_cert_file=/tls/tls.crt", "-c", "ssl_key_file=/tls/tls.key",
            ],
            POSTGRES_USER="press room", POSTGRES_DB="pressroom", POSTGRES_PASSWORD="$(PASSWORD)",
            PGDATA="/data/pgdata",
        ),
    ]  # fmt: skip
    versions = {"StatefulSet": "apps/v1", "Deployment": "apps/v1"}
    namespace.apply(*({"apiVersion": versions.get(one["kind"], "v1"), **one} for one in objects))
    values = {
        "redis": {"enabled": False},
        "externalRedis": {"url": f"rediss://{redis}:6379", "existingSecret": "external", "caSecret": "tls"},
        "postgres": {"enabled": False},
        "externalDatabase": {
            "host": postgres, "user": "press room", "existingSecret": "external", "sslmode": "verify-full",
            "caSecret": "tls",
        },
    }  # fmt: skip
    return [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]


def _server(name: str, image: str, port: int, *, command: Any = None, args: Any = None, **env: str) -> list[Any]:
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": args,
        "env": [
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "external", "key": "password"}}},
            *({"name": key, "value": value} for key, value in env.items()),
        ],
        "securityContext": RESTRICTED,
        "volumeMounts": [
            {"name": "tls", "mountPath": "/tls"},
            *({"name": "data", "mountPath": path, "subPath": path[1:].replace("/", "-")} for path in
              ("/data", "/tmp", "/var/run/postgresql")),  # noqa: S108 - in the pod
        ],
    }  # fmt: skip
    pod = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "tls", "secret": {"secretName": "tls", "defaultMode": 0o640}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    }  # fmt: skip
    return [
        {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": port}]}},
        {
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod},
        },
    ]
