"""A Kubernetes API that knows a few objects, for what the chart asks by `lookup`."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

from tests.chart.tools import VERSIONS, Manifest, render

KINDS = {
    "v1": {
        "configmaps": "ConfigMap", "pods": "Pod", "secrets": "Secret", "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "batch/v1": {"jobs": "Job"},
    "keda.sh/v1alpha1": {"scaledobjects": "ScaledObject"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
}  # fmt: skip
"""By group and version, the plural names of kinds."""


class _Api(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = self._discovery(path) or self._object(path)
        body = json.dumps(answer or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                                     "code": 404}).encode()  # fmt: skip
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _discovery(self, path: str) -> Manifest | None:
        if path == "/version":
            major, minor, _ = VERSIONS["KUBERNETES"].split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{VERSIONS['KUBERNETES']}"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            versions = {
                group: {"groupVersion": f"{group}/{version}", "version": version}
                for group, slash, version in (name.partition("/") for name in KINDS)
                if slash
            }
            return {
                "kind": "APIGroupList", "apiVersion": "v1",
                "groups": [
                    {"name": group, "versions": [versions[group]], "preferredVersion": versions[group]}
                    for group in versions
                ],
            }  # fmt: skip
        found = re.fullmatch(r"/(?:api|apis)/(.+)", path)
        if found and found[1] in KINDS:
            return {
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": found[1],
                "resources": [
                    {"name": plural, "kind": kind, "namespaced": True, "verbs": ["get"]}
                    for plural, kind in KINDS[found[1]].items()
                ],
            }  # fmt: skip
        return None

    def _object(self, path: str) -> Manifest | None:
        found = re.fullmatch(r"/(?:api|apis)/(.+)/namespaces/news/(\w+)/([^/]+)", path)
        if found is None:
            return None
        version, plural, name = found.groups()
        return self.server.objects.get((KINDS[version][plural], name))

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class ApiServer(ThreadingHTTPServer):
    objects: dict[tuple[str, str], Manifest]


@contextmanager
def cluster(*objects: Manifest) -> Iterator[str]:
    """An API with these objects in namespace ``news``, as long as the block lasts. Yields its address."""
    with ApiServer(("127.0.0.1", 0), _Api) as server:
        server.objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with mock.patch.dict(os.environ, {"KUBECONFIG": os.devnull, "no_proxy": "127.0.0.1"}):
            yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def upgrade(values: Manifest, *objects: Manifest, version: str = "HELM") -> list[Manifest]:
    """What an upgrade would install where these objects are. Raises Refused."""
    with cluster(*objects) as address:
        return render(
            values, "--dry-run=server", "--is-upgrade", f"--kube-apiserver={address}", "--kube-token=none",
            "--disable-openapi-validation",
            version=version,
        )  # fmt: skip
