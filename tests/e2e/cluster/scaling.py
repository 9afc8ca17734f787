"""``make e2e-scaling``: a queue that is paused under load, and resumed, while KEDA scales its workers; and a scale-in.

The tasks note each start and end in a table of their own, by the clock of the database.
"""

from __future__ import annotations

import os
import sys

from pressroom.monitoring.deletion_cost import ANNOTATION
from tests.e2e.cluster.autoscale import (
    HERE,
    HPA,
    SECONDS,
    WAITS,
    Watched,
    enqueue,
    notes_table,
    scaled_by,
    set_by_hand,
    told,
    watching,
    worker,
)
from tests.e2e.cluster.kube import Failed, Namespace, Steps, in_a_namespace, need, need_keda, until
from tests.e2e.cluster.stack import build

TASKS = int(os.environ.get("TASKS", "1500"))
MOST = 5
"""Pods of the queue."""
LATEST = 1.0
"""Seconds after the pause in which a task may still start."""
AT_ONCE, LONG = 10, 60.0
"""Pods before the scale-in, and seconds of a task: longer than the grace period of a pod."""
PATIENCE = 900.0
"""Seconds for the workers to follow. This only guards against a hang."""


def act(namespace: Namespace, what: str) -> float:
    """Pause or resume the queue. Returns the time before the call and its commit, in seconds since 1970."""
    return float(
        namespace.shell(
            "import time; from pressroom import operator_actions\n"
            "print(time.time())\n"
            f"operator_actions.{what}(kind='queue', name='emails', user=None)\n"
        ).split()[-1]
    )


def moment(namespace: Namespace, query: str) -> float:
    """Return a time of the database in seconds since 1970."""
    return float(namespace.psql(f"SELECT extract(epoch FROM ({query}))"))


def replicas(watched: Watched, number: int) -> float:
    """Wait for so many ready pods. Returns the seconds that it took."""
    began = watched.samples[-1].at
    until(
        lambda: (watched.samples[-1].replicas, watched.samples[-1].ready) == (number, number),
        f"{number} workers are ready",
        timeout=PATIENCE,
    )
    return watched.samples[-1].at - began


def paused(namespace: Namespace, watched: Watched, found: list[str]) -> None:
    """Pause the queue, and wait until its workers are at their minimum. Raises Failed."""
    act(namespace, "pause")
    since = moment(namespace, "SELECT since FROM taskruns_pause")
    until(lambda: watched.samples[-1].depth == 0, "the queue has no depth")
    ended = told(namespace).ended
    took = replicas(watched, 1)
    late = moment(namespace, "SELECT max(at) FROM e2e_notes WHERE what = 'begun'") - since
    after = told(namespace)
    found.append(
        f"paused after {ended} of {TASKS}: the last start {max(0.0, late):.2f} s after the pause, depth 0, "
        f"from {MOST} pods to 1 after {took:.0f} s, {after.begun - after.ended} interrupted"
    )
    if late > LATEST or after.ended != after.begun or after.ended == TASKS:
        raise Failed(found[-1])


def resumed(namespace: Namespace, watched: Watched, found: list[str]) -> None:
    """Resume it, and wait until every task has ended. Raises Failed."""
    before = moment(namespace, "SELECT max(at) FROM e2e_notes")
    at = act(namespace, "resume")
    took = replicas(watched, MOST)
    until(lambda: told(namespace).ended == TASKS, f"{TASKS} tasks end", timeout=PATIENCE)
    first = moment(namespace, f"SELECT min(at) FROM e2e_notes WHERE what = 'begun' AND at > to_timestamp({before})")
    found.append(f"resumed: the first start within {first - at:.2f} s, {MOST} pods after {took:.0f} s")
    found.append(told(namespace).of(TASKS))


def costs(namespace: Namespace) -> list[int]:
    """Return what it costs to delete each worker, as written on its pod."""
    pods = namespace.get("pods", "-l", "app.kubernetes.io/component=worker-emails")
    return [int(one["metadata"].get("annotations", {}).get(ANNOTATION, 0)) for one in pods]


def idle_first(namespace: Namespace, found: list[str]) -> None:
    """Take the idle half of ten workers away. Raises Failed if a busy one went with it."""
    busy = AT_ONCE // 2  # at most: a worker has two slots
    with set_by_hand(namespace) as scale:
        scale(AT_ONCE)
        enqueue(namespace, busy, LONG)
        until(lambda: sum(costs(namespace)) == busy, f"the pods say that they run {busy} tasks")
        scale(busy)
        until(lambda: told(namespace).ended == busy, f"{busy} tasks end", timeout=PATIENCE)
    after = told(namespace)
    found.append(f"{busy} tasks of {LONG:g} s, from {AT_ONCE} pods to {busy}: {after.of(busy)}")
    if after.interrupted:
        raise Failed(found[-1])


def scenes(steps: Steps, namespace: Namespace) -> None:
    """All of it. Raises Failed."""
    with steps.step("images built and loaded"):
        build(WAITS, HERE / "waits")
    with steps.step("install, KEDA from 1 worker"):
        scaled_by(namespace, "keda", *HPA, f"--set=workers.emails.autoscaling.maxReplicas={MOST}")
        namespace.psql(f"CREATE TABLE {notes_table()}")
        until(lambda: worker(namespace).get("readyReplicas") == 1, "one worker is ready", timeout=PATIENCE)
    with watching(namespace, "emails") as watched:
        with steps.step(f"{TASKS} tasks of {SECONDS:g} s") as found:
            enqueue(namespace, TASKS, SECONDS)
            until(lambda: watched.samples, "the queue is watched")
            found.append(f"{MOST} pods after {replicas(watched, MOST):.0f} s")
        with steps.step("pause") as found:
            paused(namespace, watched, found)
        with steps.step("resume") as found:
            resumed(namespace, watched, found)
    with steps.step("the idle half of ten workers is taken away") as found:
        scaled_by(namespace, "keda", *HPA, "--set=idleFirst.enabled=true")
        idle_first(namespace, found)


def main() -> int:
    need("kubectl", "docker")
    need_keda()
    return in_a_namespace("pressroom-e2e-scaling", scenes)


if __name__ == "__main__":
    sys.exit(main())
