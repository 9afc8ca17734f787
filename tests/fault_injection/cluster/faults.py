"""What is done to the release. Each returns what it did, and when it is over; what it took away is then back or coming.

``needs`` says what is away meanwhile: a request that needs it may be refused (503), and only such a one.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.e2e.cluster.kube import Failed, succeeds, until
from tests.fault_injection.cluster.release import IMAGE, NEXT, RELEASE, TICK, Release

FLOOD = int(os.environ.get("FLOOD", "100000"))
CUT = 60.0
"""Seconds that a network is cut or a kubelet stands still."""
BEATS = float(os.environ.get("BEATS", "300"))
"""Seconds that there are two beats."""
MARK = "pressroom-chaos"

Act = Callable[[Release], str]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One of them."""

    title: str
    act: Act
    needs: str = ""
    long: bool = False
    """Not done again at random."""
    node: bool = False
    """Needs a second node."""
    node_shell: bool = False
    """Needs a shell on a node."""


FAULTS: dict[str, Fault] = {}
"""By the function's name."""


def fault(title: str, **options: Any) -> Callable[[Act], Act]:
    def register(act: Act) -> Act:
        FAULTS[act.__name__] = Fault(title, act, **options)
        return act

    return register


@fault("rolling upgrade of every Deployment")
def restart(release: Release) -> str:
    release.namespace.kubectl("rollout", "restart", "deployment")
    release.namespace.kubectl("rollout", "status", "deployment", "--timeout=600s", timeout=700.0)
    return ""


@fault("`helm upgrade` with a migration, or back")
def upgrade(release: Release) -> str:
    release.install(NEXT if release.image == IMAGE else IMAGE)
    return f"to {release.image}"


@fault("scale-in while busy")
def scale_in(release: Release) -> str:
    worker = f"{RELEASE}-worker-default"
    if not release.keda:
        return _scaled(
            release, lambda count: release.namespace.kubectl("scale", f"deploy/{worker}", f"--replicas={count}")
        )
    annotate = ["annotate", "--overwrite", "scaledobject", worker]
    name = "autoscaling.keda.sh/paused-replicas"
    try:
        return _scaled(release, lambda count: release.namespace.kubectl(*annotate, f"{name}={count}"))
    finally:
        release.namespace.kubectl(*annotate, f"{name}-")


def _scaled(release: Release, to: Callable[[int], object]) -> str:
    for count in (4, 1):
        to(count)
        until(lambda count=count: len(release.pods("worker-default")) == count, f"{count} workers", timeout=300.0)
    return "4 to 1"


@fault("worker pods deleted, `--grace-period=0 --force`")
def workers(release: Release) -> str:
    names = [name for queue in ("default", "emails", "reports", "bulk") for name in release.pods(f"worker-{queue}")]
    release.namespace.kubectl("delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")
    return f"{len(names)} pods"


# The children of the worker's main process, itself the child of process 1.
_CHILD = """
import os, pathlib, random, signal
parent = {}
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    fields = stat.read_text().rpartition(")")[2].split()
    parent[int(stat.parent.name)] = int(fields[1])
main = next(pid for pid in parent if parent[pid] == 1 and pid in parent.values())
os.kill(random.choice([pid for pid in parent if parent[pid] == main]), signal.SIGKILL)
"""


@fault("a worker's child killed")
def child(release: Release) -> str:
    release.namespace.kubectl("exec", release.some_pod("worker-default"), "--", "python", "-c", _CHILD)
    return ""


@fault("a worker's whole container killed, as by OOM")
def container(release: Release) -> str:
    name = release.some_pod("worker-default")
    # All but process 1 and the one that asks; process 1 ends with the worker.
    release.namespace.kubectl("exec", name, "--", "python", "-c", "import os; os.kill(-1, 9)")
    return ""


@fault("Redis pod deleted")
def redis(release: Release) -> str:
    release.namespace.kubectl("delete", "pod", "press-redis-0")
    return ""


@fault("Redis volume emptied")
def redis_emptied(release: Release) -> str:
    """Raises Failed where Redis still knows anything afterwards."""

    def in_redis(command: str) -> str:
        return release.namespace.kubectl("exec", "press-redis-0", "--", "sh", "-c", command).strip()

    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli'
    in_redis(f"{cli} set chaos canary && rm -rf /data/*")
    release.namespace.kubectl("delete", "pod", "press-redis-0")
    wait_ready = ["wait", "--for=condition=Ready", "pod/press-redis-0", "--timeout=5s"]
    until(lambda: succeeds("kubectl", "-n", release.namespace.name, *wait_ready), "Redis is back", timeout=300.0)
    if in_redis(f"{cli} exists chaos") != "0":
        raise Failed("the volume was not emptied")
    return ""


@fault("Postgres pod deleted", needs="postgres")
def postgres(release: Release) -> str:
    release.namespace.kubectl("delete", "pod", "press-postgres-0")
    return ""


def _deleted(component: str) -> Act:
    def act(release: Release) -> str:
        release.namespace.kubectl("delete", "pod", *release.pods(component))
        return ""

    return act


for _component in ("relay", "exporter", "beat"):
    FAULTS[_component] = Fault(f"{_component} deleted", _deleted(_component))


@fault(f"beat scaled to 2 by hand, {BEATS:g} s", long=True)
def beats(release: Release) -> str:
    """Raises Failed where a schedule fired twice, or did not."""
    beat = f"deploy/{RELEASE}-beat"
    release.namespace.kubectl("scale", beat, "--replicas=2")
    until(lambda: len(release.pods("beat")) == 2, "two beats are there", timeout=300.0)
    begin = release.namespace.psql("SELECT clock_timestamp()")
    time.sleep(BEATS)
    fired = release.namespace.psql(
        f"SELECT created_at FROM taskruns_taskrun WHERE name = 'chaos.tick' AND created_at > '{begin}' "
        "AND created_at < clock_timestamp() ORDER BY created_at"
    ).splitlines()
    release.namespace.kubectl("scale", beat, "--replicas=1")
    at = [datetime.fromisoformat(line).timestamp() for line in [begin, *fired]]
    gaps = [after - before for before, after in pairwise(at)][1:]
    line = f"{len(fired)} fired, {min(gaps):.1f} to {max(gaps):.1f} s apart, every {TICK} s"
    if min(gaps) < TICK / 2 or max(gaps) > 3 * TICK:
        raise Failed(line)
    return line


@fault("a node drained and uncordoned", node=True)
def drain(release: Release) -> str:
    assert release.weak is not None
    arguments = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=300s"]
    try:
        release.namespace.kubectl("drain", release.weak, *arguments, timeout=400.0)
    finally:
        release.namespace.kubectl("uncordon", release.weak)
    return ""


# Each kind of node has its kubelet by itself; where several stand on one machine, its arguments name the node.
_KUBELET = """
for process in $(pgrep -x kubelet); do
    line=$(tr '\\0' ' ' </proc/$process/cmdline)
    case "$line" in
        *--hostname-override[=\\ ]$NODE\\ *) ;;
        *--hostname-override*) continue ;;
    esac
    kill -%s $process && echo stopped
done
"""


@fault(f"a kubelet stopped for {CUT:g} s", node=True, node_shell=True)
def kubelet(release: Release) -> str:
    assert release.weak is not None
    try:
        if not release.on_node(release.weak, _KUBELET % "STOP").strip():
            raise Failed(f"no kubelet on {release.weak}")
        time.sleep(CUT)
    finally:
        release.on_node(release.weak, _KUBELET % "CONT")
    return ""


def _cut(release: Release, server: str) -> str:
    """Between that pod and all workers, those included that come meanwhile."""
    cut: set[str] = set()
    until_then = time.monotonic() + CUT
    forget = f"iptables -S FORWARD | grep {MARK} | sed s/-A/-D/ | xargs -r -L1 iptables"
    try:
        while time.monotonic() < until_then:
            pods = release.namespace.get("pods")
            address = {one["metadata"]["name"]: one["status"].get("podIP") for one in pods}
            for one in pods:
                component = one["metadata"]["labels"].get("app.kubernetes.io/component", "")
                worker = one["status"].get("podIP")
                if not component.startswith("worker-") or not worker or worker in cut:
                    continue
                cut.add(worker)
                both = ((worker, address[server]), (address[server], worker))
                rules = [f"-s {a} -d {b} -m comment --comment {MARK} -j DROP" for a, b in both]
                for node in release.nodes:
                    release.on_node(node, "\n".join(f"iptables -I FORWARD {rule}" for rule in rules))
            time.sleep(1)
    finally:
        for node in release.nodes:
            release.on_node(node, forget)
    return f"{len(cut)} workers"


@fault(f"workers cut off from Redis for {CUT:g} s", node_shell=True)
def cut_redis(release: Release) -> str:
    return _cut(release, "press-redis-0")


@fault(f"workers cut off from Postgres for {CUT:g} s", node_shell=True)
def cut_postgres(release: Release) -> str:
    return _cut(release, "press-postgres-0")


@fault("a poison task", long=True)
def poison(release: Release) -> str:
    """Raises Failed where it does not become a dead letter."""
    release.ask_outside("poison")
    found = "SELECT status, losses FROM taskruns_taskrun WHERE name = 'chaos.poison'"

    def dead() -> str | None:
        status, _, losses = release.namespace.psql(found).partition("|")
        return losses if status == "dead" else None

    losses = until(dead, "it is a dead letter", timeout=1800.0)
    discard = ["manage.py", "deadletters", "discard", "--name", "chaos.poison", "--all"]
    release.namespace.kubectl("exec", f"deploy/{RELEASE}-web", "--", "python", *discard)
    return f"a dead letter after {losses} containers"


@fault(f"a flood of {FLOOD:,} tasks", long=True)
def flood(release: Release) -> str:
    release.ask_outside("flood", str(FLOOD))
    until(lambda: not release.has("flood"), "all are called", timeout=1800.0)
    until(lambda: release.unfinished() < 1000, "they are done", timeout=5400.0)
    return ""


SHORT = ("workers", "container", "redis_emptied", "postgres", "drain")
"""The worst five, for `make e2e`."""
