"""The external metrics API of Kubernetes with one metric, read from the exporter: run in a pod, for a plain HPA.

A cluster of one's own has Prometheus and its adapter there. Arguments: the exporter's URL, certificate, key.
"""

from __future__ import annotations

import datetime
import json
import ssl
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

GROUP = "external.metrics.k8s.io/v1beta1"
METRIC = "pressroom_queue_depth"
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": GROUP,
    "resources": [
        {
            "name": METRIC, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"],
        }
    ],
}  # fmt: skip


def values(exporter: str, query: str) -> dict[str, Any]:
    """The depth of the queue that the label selector names, as `/apis/external.metrics.k8s.io` answers."""
    labels = dict(part.split("=", 1) for part in parse_qs(query)["labelSelector"][0].split(","))
    with urllib.request.urlopen(f"{exporter}/queues/{labels['queue_name']}", timeout=5) as answer:
        depth = json.load(answer)["depth"]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item = {"metricName": METRIC, "metricLabels": labels, "timestamp": now, "value": str(int(depth))}
    return {"kind": "ExternalMetricValueList", "apiVersion": GROUP, "metadata": {}, "items": [item]}


def serve(exporter: str, certificate: str, key: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            try:
                if url.path == f"/apis/{GROUP}":
                    self.tell(200, RESOURCES)
                elif url.path.endswith(f"/{METRIC}"):
                    self.tell(200, values(exporter, url.query))
                else:
                    self.tell(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})
            except OSError as error:
                self.tell(503, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(error)})

        def tell(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("", 8443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
