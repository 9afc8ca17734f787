"""kubectl, helm and docker, as a user has them; and steps that are timed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.chart.tools import ROOT, VERSIONS

HELM = str(ROOT / ".tools" / f"helm-{VERSIONS['HELM']}" / "helm")


class Failed(Exception):
    """It does not work; the text says what."""


def run(*command: str, given: str | None = None, timeout: float = 900.0) -> str:
    """Standard output. Raises Failed with what was said when the exit code is not 0, or nothing came in time."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, input=given, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shlex.join(command)[:300]}: not within {timeout:g} s") from error
    if done.returncode:
        raise Failed(f"{shlex.join(command)[:300]}: exit {done.returncode}\n{(done.stderr or done.stdout)[-3000:]}")
    return done.stdout


def helm(*arguments: str, timeout: float = 900.0) -> str:
    return run(HELM, *arguments, timeout=timeout)


class Namespace:
    """A namespace of its own, in which Pods must be restricted unless said otherwise."""

    def __init__(self, name: str, restricted: bool = True) -> None:
        self.name = name
        self.delete()
        self.kubectl("create", "namespace", name)
        if restricted:
            self.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")

    def kubectl(self, *arguments: str, given: str | None = None, timeout: float = 300.0) -> str:
        return run("kubectl", "-n", self.name, *arguments, given=given, timeout=timeout)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", *what, "-o", "json"))["items"]
        return found

    def helm(self, *arguments: str, timeout: float = 900.0) -> str:
        return helm("-n", self.name, *arguments, timeout=timeout)

    def delete(self) -> None:
        # Its workers first: a namespace with pods in it is looked at again after half of their longest grace period.
        self.kubectl("delete", "deploy,sts,job", "--all", "--cascade=foreground", "--timeout=800s", timeout=900.0)
        self.kubectl("delete", "pod", "--all", "--timeout=800s", timeout=900.0)
        run("kubectl", "delete", "namespace", self.name, "--ignore-not-found", "--timeout=800s", timeout=900.0)

    def shell(self, code: str, given: str | None = None) -> str:
        """What the Python code prints in a web pod, with Django set up."""
        command = [
            "exec",
            "-i",
            "deploy/press-pressroom-web",
            "--",
            "python",
            "manage.py",
            "shell",
            "-v",
            "0",
            "-c",
            code,
        ]
        return self.kubectl(*command, given=given)

    @contextmanager
    def forward(self, service: str, port: int) -> Iterator[str]:
        """The service's address on this machine, for as long as the block lasts."""
        command = ["kubectl", "-n", self.name, "port-forward", f"svc/{service}", f":{port}"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", line)
                if not found:
                    raise Failed(f"{shlex.join(command)}: {line}")
                yield f"http://{found[1]}"
            finally:
                process.terminate()

    def psql(self, query: str) -> str:
        """What the release's own Postgres answers: a line a row, columns between bars."""
        command = ["exec", "-i", "press-postgres-0", "--", "psql", "-U", "pressroom", "-d", "pressroom", "-tA", "-v",
                   "ON_ERROR_STOP=1", "-f", "-"]  # fmt: skip
        return self.kubectl(*command, given=query).strip()

    def unready(self) -> str:
        """The first Deployment or StatefulSet of which not every pod is new and ready, as last told. Empty: none."""
        for one in self.get("deployment,statefulset"):
            wanted, status = one["spec"]["replicas"], one["status"]
            told = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
            if told != [wanted] * 3 or status.get("observedGeneration") != one["metadata"]["generation"]:
                return f"{one['metadata']['name']}: of {wanted} are there, new, ready: {told}"
        return ""

    def settled(self) -> bool:
        """Whether all are ready and none still ends, which `kubectl exec` of a Deployment might choose."""
        return not (self.unready() or any("deletionTimestamp" in pod["metadata"] for pod in self.get("pods")))

    def state(self) -> str:
        """For a failure: pods, events and the last lines of what does not run."""
        parts = [self.kubectl("get", "pods", "-o", "wide"), self.kubectl("get", "events", "--sort-by=.lastTimestamp")]
        parts += [
            self.kubectl("logs", pod["metadata"]["name"], "--tail=15", "--all-containers", "--ignore-errors")
            for pod in self.get("pods")
            if not all(status.get("ready") for status in pod["status"].get("containerStatuses", []))
        ]
        return "\n".join(part[-4000:] for part in parts)


def load_image(*images: str) -> None:
    """Give the cluster images of this machine: kind's way, minikube's, or as LOAD_IMAGE says, which gets the name."""
    context = run("kubectl", "config", "current-context").strip()
    if os.environ.get("LOAD_IMAGE"):
        command = shlex.split(os.environ["LOAD_IMAGE"])
    elif context.startswith("kind-"):
        command = ["kind", "load", "docker-image", "--name", context.removeprefix("kind-")]
    elif context == "minikube":
        command = ["minikube", "image", "load"]
    else:
        raise Failed(f"context {context}: set LOAD_IMAGE to a command that gives the cluster an image of this machine")
    for image in images:
        run(*command, image)


def has_keda() -> bool:
    return succeeds("kubectl", "get", "crd", "scaledobjects.keda.sh")


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def until(condition: Any, what: str, timeout: float = 180.0) -> Any:
    """The first true value of ``condition()``, asked every half second. Raises Failed."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout:g} s: {what}")
        time.sleep(0.5)
    return value


class Steps:
    """What was done, how long it took, and what was found."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float, str]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """A step; what is appended to the list stands in its line."""
        print(f"… {title}", file=sys.stderr, flush=True)
        found: list[str] = []
        started = time.monotonic()
        yield found
        self.done.append((title, time.monotonic() - started, "; ".join(found)))
        print(f"  {self.done[-1][1]:6.1f} s  {title}: {self.done[-1][2]}", file=sys.stderr, flush=True)

    def table(self) -> str:
        width = max(len(title) for title, _, _ in self.done)
        lines = [f"{title:{width}}  {seconds:6.1f} s  {found}" for title, seconds, found in self.done]
        total = sum(seconds for _, seconds, _ in self.done)
        return "\n".join([*lines, f"{'in all':{width}}  {total:6.1f} s"])


def need(*programs: str) -> None:
    """Raises Failed where one is not there."""
    for program in programs:
        if shutil.which(program) is None:
            raise Failed(f"{program} is not there")


def need_keda() -> None:
    """Raises Failed where it is not in the cluster."""
    if not has_keda():
        raise Failed("KEDA is not in this cluster: https://keda.sh/docs/latest/deploy/")


def in_a_namespace(name: str, scenes: Callable[[Steps, Namespace], None]) -> int:
    """Play the scenes in a namespace of their own, and print their steps. Returns the exit code.

    KEEP=1 leaves the namespace behind.
    """
    steps, namespace = Steps(), Namespace(name)
    try:
        scenes(steps, namespace)
    except Failed as error:
        print(f"\n{error}\n{namespace.state()}", file=sys.stderr)
        return 1
    finally:
        print(steps.table())
        if not os.environ.get("KEEP"):
            namespace.delete()
    return 0
