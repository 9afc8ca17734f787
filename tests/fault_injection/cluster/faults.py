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
from tests.fault_injection.cluster.ground import IMAGE, NEXT, RELEASE, TICK, Ground

FLOOD = int(os.environ.get("FLOOD", "100000"))
CUT = 60.0
"""Seconds that a network is cut or a kubelet stands still."""
BEATS = float(os.environ.get("BEATS", "300"))
"""Seconds that there are two beats."""
MARK = "pressroom-chaos"

Act = Callable[[Ground], str]


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
def restart(ground: Ground) -> str:
    ground.namespace.kubectl("rollout", "restart", "deployment")
    ground.namespace.kubectl("rollout", "status", "deployment", "--timeout=600s", timeout=700.0)
    return ""


@fault("`helm upgrade` with a migration, or back")
def upgrade(ground: Ground) -> str:
    ground.install(NEXT if ground.image == IMAGE else IMAGE)
    return f"to {ground.image}"


@fault("scale-in while busy")
def scale_in(ground: Ground) -> str:
    worker = f"{RELEASE}-worker-default"
    if not ground.keda:
        return _scaled(
            ground, lambda count: ground.namespace.kubectl("scale", f"deploy/{worker}", f"--replicas={count}")
        )
    annotate = ["annotate", "--overwrite", "scaledobject", worker]
    name = "autoscaling.keda.sh/paused-replicas"
    try:
        return _scaled(ground, lambda count: ground.namespace.kubectl(*annotate, f"{name}={count}"))
    finally:
        ground.namespace.kubectl(*annotate, f"{name}-")


def _scaled(ground: Ground, to: Callable[[int], object]) -> str:
    for count in (4, 1):
        to(count)
        until(lambda count=count: len(ground.pods("worker-default")) == count, f"{count} workers", timeout=300.0)
    return "4 to 1"


@fault("worker pods deleted, `--grace-period=0 --force`")
def workers(ground: Ground) -> str:
    names = [name for queue in ("default", "emails", "reports") for name in ground.pods(f"worker-{queue}")]
    ground.namespace.kubectl("delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")
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
def child(ground: Ground) -> str:
    ground.namespace.kubectl("exec", ground.some_pod("worker-default"), "--", "python", "-c", _CHILD)
    return ""


@fault("a worker's whole container killed, as by OOM")
def container(ground: Ground) -> str:
    name = ground.some_pod("worker-default")
    # All but process 1 and the one that asks; process 1 ends with the worker.
    ground.namespace.kubectl("exec", name, "--", "python", "-c", "import os; os.kill(-1, 9)")
    return ""


@fault("Redis pod deleted")
def redis(ground: Ground) -> str:
    ground.namespace.kubectl("delete", "pod", "press-redis-0")
    return ""


@fault("Redis volume emptied")
def redis_emptied(ground: Ground) -> str:
    """Raises Failed where Redis still knows anything afterwards."""

    def in_redis(command: str) -> str:
        return ground.namespace.kubectl("exec", "press-redis-0", "--", "sh", "-c", command).strip()

    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli'
    in_redis(f"{cli} set chaos canary && rm -rf /data/*")
    ground.namespace.kubectl("delete", "pod", "press-redis-0")
    wait_ready = ["wait", "--for=condition=Ready", "pod/press-redis-0", "--timeout=5s"]
    until(lambda: succeeds("kubectl", "-n", ground.namespace.name, *wait_ready), "Redis is back", timeout=300.0)
    if in_redis(f"{cli} exists chaos") != "0":
        raise Failed("the volume was not emptied")
    return ""


@fault("Postgres pod deleted", needs="postgres")
def postgres(ground: Ground) -> str:
    ground.namespace.kubectl("delete", "pod", "press-postgres-0")
    return ""


def _deleted(component: str) -> Act:
    def act(ground: Ground) -> str:
        ground.namespace.kubectl("delete", "pod", *ground.pods(component))
        return ""

    return act


for _component in ("relay", "exporter", "beat"):
    FAULTS[_component] = Fault(f"{_component} deleted", _deleted(_component))


@fault(f"beat scaled to 2 by hand, {BEATS:g} s", long=True)
def beats(ground: Ground) -> str:
    """Raises Failed where a schedule fired twice, or did not."""
    beat = f"deploy/{RELEASE}-beat"
    ground.namespace.kubectl("scale", beat, "--replicas=2")
    until(lambda: len(ground.pods("beat")) == 2, "two beats are there", timeout=300.0)
    begin = ground.namespace.psql("SELECT clock_timestamp()")
    time.sleep(BEATS)
    fired = ground.namespace.psql(
        f"SELECT created_at FROM taskruns_taskrun WHERE name = 'chaos.tick' AND created_at > '{begin}' "
        "AND created_at < clock_timestamp() ORDER BY created_at"
    ).splitlines()
    ground.namespace.kubectl("scale", beat, "--replicas=1")
    at = [datetime.fromisoformat(line).timestamp() for line in [begin, *fired]]
    gaps = [after - before for before, after in pairwise(at)][1:]
    line = f"{len(fired)} fired, {min(gaps):.1f} to {max(gaps):.1f} s apart, every {TICK} s"
    if min(gaps) < TICK / 2 or max(gaps) > 3 * TICK:
        raise Failed(line)
    return line


@fault("a node drained and uncordoned", node=True)
def drain(ground: Ground) -> str:
    assert ground.weak is not None
    arguments = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=300s"]
    try:
        ground.namespace.kubectl("drain", ground.weak, *arguments, timeout=400.0)
    finally:
        ground.namespace.kubectl("uncordon", ground.weak)
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
def kubelet(ground: Ground) -> str:
    assert ground.weak is not None
    try:
        if not ground.on_node(ground.weak, _KUBELET % "STOP").strip():
            raise Failed(f"no kubelet on {ground.weak}")
        time.sleep(CUT)
    finally:
        ground.on_node(ground.weak, _KUBELET % "CONT")
    return ""


def _cut(ground: Ground, server: str) -> str:
    """Between that pod and all workers, those included that come meanwhile."""
    cut: set[str] = set()
    until_then = time.monotonic() + CUT
    forget = f"iptables -S FORWARD | grep {MARK} | sed s/-A/-D/ | xargs -r -L1 iptables"
    try:
        while time.monotonic() < until_then:
            pods = ground.namespace.get("pods")
            address = {one["metadata"]["name"]: one["status"].get("podIP") for one in pods}
            for one in pods:
                component = one["metadata"]["labels"].get("app.kubernetes.io/component", "")
                worker = one["status"].get("podIP")
                if not component.startswith("worker-") or not worker or worker in cut:
                    continue
                cut.add(worker)
                both = ((worker, address[server]), (address[server], worker))
                rules = [f"-s {a} -d {b} -m comment --comment {MARK} -j DROP" for a, b in both]
                for node in ground.nodes:
                    ground.on_node(node, "\n".join(f"iptables -I FORWARD {rule}" for rule in rules))
            time.sleep(1)
    finally:
        for node in ground.nodes:
            ground.on_node(node, forget)
    return f"{len(cut)} workers"


@fault(f"workers cut off from Redis for {CUT:g} s", node_shell=True)
def cut_redis(ground: Ground) -> str:
    return _cut(ground, "press-redis-0")


@fault(f"workers cut off from Postgres for {CUT:g} s", node_shell=True)
def cut_postgres(ground: Ground) -> str:
    return _cut(ground, "press-postgres-0")


@fault("a poison task", long=True)
def poison(ground: Ground) -> str:
    """Raises Failed where it does not become a dead letter."""
    ground.ask_outside("poison")
    found = "SELECT status, losses FROM taskruns_taskrun WHERE name = 'chaos.poison'"

    def dead() -> str | None:
        status, _, losses = ground.namespace.psql(found).partition("|")
        return losses if status == "dead" else None

    losses = until(dead, "it is a dead letter", timeout=1800.0)
    discard = ["manage.py", "deadletters", "discard", "--name", "chaos.poison", "--all"]
    ground.namespace.kubectl("exec", f"deploy/{RELEASE}-web", "--", "python", *discard)
    return f"a dead letter after {losses} containers"


@fault(f"a flood of {FLOOD:,} tasks", long=True)
def flood(ground: Ground) -> str:
    ground.ask_outside("flood", str(FLOOD))
    until(lambda: not ground.has("flood"), "all are called", timeout=1800.0)
    until(lambda: ground.unfinished() < 1000, "they are done", timeout=5400.0)
    return ""


SHORT = ("workers", "container", "redis_emptied", "postgres", "drain")
"""The worst five, for `make e2e`."""
