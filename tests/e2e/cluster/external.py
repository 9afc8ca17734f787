"""A Redis and a Postgres that the chart did not make, reached by TLS with an authority of their own."""

from __future__ import annotations

import datetime
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.cluster.kube import Namespace

DAY = datetime.timedelta(days=1)
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def certificates(*hosts: str, strict: bool = True) -> dict[str, str]:
    """An authority (``ca.crt``), and a certificate for the hosts that it has signed (``tls.crt``, ``tls.key``).

    Without ``strict`` the authority does not say that it may sign, as that of many a cluster.
    """
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority for a test")])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> str:
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints | x509.KeyUsage))
        return made.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    # Python from 3.13 on wants to be told that the authority may sign.
    signs = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return {
        "ca.crt": certificate(
            issuer,
            authority,
            x509.BasicConstraints(ca=True, path_length=None),
            *([signs] if strict else []),
            identifier,
        ),
        "tls.crt": certificate(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), server, names,
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
        ),
        "tls.key": server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }  # fmt: skip


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
