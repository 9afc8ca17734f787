"""Tells Kubernetes which worker pods are busy, so that a scale-in removes idle ones first.

Among the pods of a Deployment that shrinks, Kubernetes removes those with the lowest
``controller.kubernetes.io/pod-deletion-cost`` first. The cost of a worker's pod is the number of its running runs.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import urllib.request
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from django.db import DatabaseError, InterfaceError, connection

from pressroom.sql import workers

logger = logging.getLogger(__name__)

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
EVERY = 5.0
"""Seconds between two looks. Only a cost that has changed is written."""
TIMEOUT = 5.0
"""Seconds that the API may take to answer one request."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class DeletionCosts:
    """Writes the costs of the pods in its own namespace. ``api`` is the address of Kubernetes' API."""

    def __init__(self, api: str, credentials: Path = SERVICE_ACCOUNT) -> None:
        self._pods = f"{api}/api/v1/namespaces/{(credentials / 'namespace').read_text().strip()}/pods"
        self._credentials = credentials
        self._written: dict[str, int] = {}

    def run(self, stopping: threading.Event) -> None:
        """Write changed costs until ``stopping`` is set. Outages are logged and waited for."""
        while not stopping.wait(EVERY):
            try:
                self.write(workers.running_by_name())
            except (DatabaseError, InterfaceError, URLError, OSError) as error:
                logger.warning("could not write the cost of deleting pods: %r", error)
                connection.close()

    def write(self, running: dict[str, int]) -> None:
        """Write the costs that differ from what was written last. ``running`` counts runs by Celery node name.

        A node's name ends with the name of its pod: ``emails@press-worker-emails-5d9f-x2x``. Raises OSError, but a
        refusal (HTTPError) only after the other pods.
        """
        refused = None
        costs = {name.rpartition("@")[2]: count for name, count in running.items()}
        self._written = {pod: cost for pod, cost in self._written.items() if pod in costs}
        for pod, cost in costs.items():
            if self._written.get(pod) == cost:
                continue
            try:
                self._patch(pod, cost)
                self._written[pod] = cost
            except HTTPError as error:
                refused = error
        if refused is not None:
            raise refused

    def _patch(self, pod: str, cost: int) -> None:
        request = urllib.request.Request(  # noqa: S310 - an option names the API
            f"{self._pods}/{quote(pod, safe='')}",
            method="PATCH",
            data=json.dumps({"metadata": {"annotations": {ANNOTATION: str(cost)}}}).encode(),
            headers={
                "Content-Type": "application/merge-patch+json",
                # Kubernetes replaces the file before the token expires.
                "Authorization": f"Bearer {(self._credentials / 'token').read_text().strip()}",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=self._trust()):  # noqa: S310 - as above
                pass
        except HTTPError as error:
            # The pod is gone, or the worker runs outside of Kubernetes.
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    def _trust(self) -> ssl.SSLContext | None:
        if not self._pods.startswith("https:"):
            return None
        context = ssl.create_default_context(cafile=str(self._credentials / "ca.crt"))
        # Many a cluster's authority lacks what RFC 5280 demands, which Python from 3.13 on would refuse.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
