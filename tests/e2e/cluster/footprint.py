"""What the image, a worker's start and the idle stack cost, beside the aims. Figures, not assertions."""

from __future__ import annotations

import re
from typing import Any

from tests.chart.tools import ROOT
from tests.e2e.cluster.kube import Failed, Namespace, run, until
from tests.e2e.cluster.stack import IMAGE

ADDED_MB, START, STACK_MIB = 200, 3.0, 700
"""Aims: megabytes over the base image, seconds from a worker's start to its first task, memory of the idle stack."""
STARTS = 3
WORKER = "worker-default"
# The container's first process: Kubernetes itself tells the start of a container in whole seconds only.
BEGAN = "echo $(date +%s.%N) $(cut -d' ' -f1 /proc/uptime) $(cut -d' ' -f22 /proc/1/stat) $(getconf CLK_TCK)"
# What Kubernetes counts as a pod's memory, of the cgroup that the container sees as its own.
MEMORY = r"""
cd /sys/fs/cgroup
if [ -e memory.current ]; then use=$(cat memory.current); else cd memory; use=$(cat memory.usage_in_bytes); fi
echo $((use - $(sed -nE 's/^(total_)?inactive_file //p' memory.stat | tail -n 1)))
"""


def verdict(value: float, aim: float) -> str:
    return f"{'yes' if value <= aim else 'NO'}, the aim is {aim:g} at most"


def image(found: list[str]) -> None:
    """Its size over its base's, whether it is whole, and what of it a change of code makes anew."""
    base = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    size, below = (int(run("docker", "image", "inspect", "-f", "{{.Size}}", name)) / 1e6 for name in (IMAGE, *base))
    found.append(f"{size:.0f} MB, {size - below:.0f} over {base[0]} ({verdict(size - below, ADDED_MB)})")
    # Layers from the one of the code on: those below do not change with it.
    lines = run("docker", "history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE).splitlines()
    code = next(n for n, line in enumerate(lines) if re.search(r"COPY /srv/pressroom\b", line))
    changed = sum(int(line.split()[0]) for line in lines[: code + 1]) / 1e6
    found.append(f"a change of code: {changed:.1f} MB of layers")
    probe = (ROOT / "tests" / "support" / "probes" / "whole.py").read_text()
    command = ["docker", "run", "--rm", "-i", "--network", "none", "--read-only", "--tmpfs", "/tmp"]  # noqa: S108 - there
    found.append(f"in it: {', '.join(run(*command, IMAGE, 'python', '-', given=probe).splitlines()[1:])}")


def pods(namespace: Namespace, component: str) -> list[dict[str, Any]]:
    return namespace.get("pods", "-l", f"app.kubernetes.io/component={component}")


def start(namespace: Namespace) -> float:
    """Seconds from the start of a worker's container to that of a task that waits for it. Raises Failed."""
    scale = ["scale", f"deploy/press-pressroom-{WORKER}"]
    namespace.kubectl(*scale, "--replicas=0")
    until(lambda: not pods(namespace, WORKER), f"no {WORKER} is left", timeout=420.0)
    queued = namespace.shell(
        "from pressroom.models import TaskRun; from pressroom.tasks import prune;print(TaskRun.of(prune.delay()).pk)"
    ).split()[-1]
    row = f"FROM taskruns_taskrun WHERE id = '{queued}'"
    until(lambda: namespace.psql(f"SELECT published_at {row}"), "the relay has sent the task")
    namespace.kubectl(*scale, "--replicas=1")
    taken = until(lambda: namespace.psql(f"SELECT extract(epoch FROM started_at) {row}"), "a worker takes the task")
    now, up, ticks, per_second = map(
        float, namespace.kubectl("exec", f"deploy/press-pressroom-{WORKER}", "--", "sh", "-c", BEGAN).split()
    )
    return float(taken) - (now - up + ticks / per_second)


def starts(namespace: Namespace, found: list[str]) -> None:
    """A worker's, some times over."""
    before = namespace.get("deploy", "-l", f"app.kubernetes.io/component={WORKER}")[0]["spec"]["replicas"]
    seconds = sorted(start(namespace) for _ in range(STARTS))
    namespace.kubectl("scale", f"deploy/press-pressroom-{WORKER}", f"--replicas={before}")
    told = ", ".join(f"{one:.1f}" for one in seconds)
    found.append(f"{told} s ({verdict(seconds[STARTS // 2], START)})")


def memory(namespace: Namespace, found: list[str]) -> None:
    """Of each pod of the stack's Deployments, and of all."""
    until(namespace.settled, "all are ready")
    total, parts = 0.0, []
    for pod in namespace.get("pods"):
        # Not the migration's, which ends, nor the servers'.
        if pod["metadata"]["ownerReferences"][0]["kind"] != "ReplicaSet":
            continue
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        told = namespace.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", MEMORY)
        total += (mib := int(told) / 2**20)
        parts.append(f"{component} {mib:.0f}")
    if not parts:
        raise Failed("no pod of the stack runs")
    found.append(f"{', '.join(sorted(parts))}; in all {total:.0f} MiB ({verdict(total, STACK_MIB)})")
