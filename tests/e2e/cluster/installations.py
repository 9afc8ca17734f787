"""The ways in which other people install the chart, each of which has broken charts."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chart.nasty import PASSWORDS
from tests.chart.tools import CHART
from tests.e2e.cluster.kube import HELM, Failed, Namespace, has_keda, run, until
from tests.e2e.cluster.stack import IMAGE, INSTALL, install

SMALL = [*INSTALL, "--set=web.replicas=1,image.repository=pressroom", f"--set=image.tag={IMAGE.partition(':')[2]}"]
UID = 1_000_670_000
"""Of a range that OpenShift gives to a namespace. Its pods get the group 0."""
OPENSHIFT = {"openshift": True, "podSecurityContext": {"runAsUser": UID, "runAsGroup": 0, "fsGroup": UID}}
INITDB = {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999}
"""Postgres's own: initdb looks its user up. The official image invents an entry for it, which not every image does."""
HELD = 130
"""Seconds for which a lock holds up the migration."""
TICK = "pressroom.tasks.prune"


def secret(name: str, password: str) -> dict[str, object]:
    return {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "stringData": {"password": password}}


def two_releases(found: list[str]) -> None:
    """In one namespace, with the longest names and passwords of every kind; the second under a random user id."""
    namespace = Namespace("pressroom-e2e-names")
    plain = [password for password in PASSWORDS if "\n" not in password]
    pairs = {"redis-a": "".join(plain)[:400], "postgres-a": "".join(reversed(plain))[:400]}
    pairs |= {"redis-b": 'ends in a line break"\\\n', "postgres-b": "the same '$(id)@:/ \n"}
    names = ["r" * 52 + last for last in "ab"]
    try:
        namespace.apply(*(secret(name, password) for name, password in pairs.items()))
        started = time.monotonic()
        for name in names:
            namespace.helm(
                "install", name, str(CHART), *SMALL,
                f"--set=redis.auth.existingSecret=redis-{name[-1]},postgres.auth.existingSecret=postgres-{name[-1]}",
                *(
                    [
                        f"--set-json=global={json.dumps(OPENSHIFT)}",
                        f"--set-json=postgres.podSecurityContext={json.dumps(INITDB)}",
                    ]
                    if name == names[1]
                    else []
                ),
            )  # fmt: skip
        until(namespace.settled, "both are ready", timeout=300.0)
        found.append(f"{time.monotonic() - started:.0f} s to ready")
        for name in names:
            namespace.helm("test", name, "--timeout", "5m")
            pod = namespace.get("pods", "-l", f"app.kubernetes.io/instance={name},app.kubernetes.io/component=test")[0]
            found.append(namespace.kubectl("logs", pod["metadata"]["name"]).strip().splitlines()[-1])
        users = {
            namespace.kubectl("exec", pod["metadata"]["name"], "--", "id", "-u").strip()
            for pod in namespace.get("pods", "-l", f"app.kubernetes.io/instance={names[1]}")
            if pod["status"]["phase"] == "Running" and pod["metadata"]["labels"]["app.kubernetes.io/name"] != "postgres"
        }
        if users != {str(UID)}:
            raise Failed(f"user ids: {users}")
        found.append(f"as user {UID}")
    except Failed as error:
        raise Failed(f"{error}\n{namespace.state()}") from error
    finally:
        namespace.delete()


def rendered(namespace: Namespace) -> str:
    """What `helm template`, which asks no cluster, makes of values that generate no secret."""
    own = {"existingSecret": "django", "redis.auth.existingSecret": "server", "postgres.auth.existingSecret": "server"}
    return run(
        HELM, "template", "press", str(CHART), "-n", namespace.name, "--skip-tests", *SMALL,
        "--set=secrets.generate=false", *(f"--set={key}={value}" for key, value in own.items()),
    )  # fmt: skip


def twice(found: list[str]) -> None:
    """`helm template | kubectl apply`, as Argo CD does it: the second time changes nothing and restarts nothing."""
    namespace = Namespace("pressroom-e2e-rendered")
    try:
        key = {
            "kind": "Secret",
            "apiVersion": "v1",
            "metadata": {"name": "django"},
            "stringData": {"SECRET_KEY": secrets.token_urlsafe(50)},
        }
        namespace.apply(key, secret("server", "a password"))
        started = time.monotonic()
        namespace.kubectl("apply", "-f", "-", given=rendered(namespace))
        until(namespace.settled, "all are ready", timeout=300.0)
        found.append(f"{time.monotonic() - started:.0f} s to ready")
        pods = {pod["metadata"]["uid"] for pod in namespace.get("pods")}
        sets = {one["metadata"]["name"]: one["metadata"]["generation"] for one in namespace.get("statefulset")}
        lines = namespace.kubectl("apply", "-f", "-", given=rendered(namespace)).strip().splitlines()
        # kubectl calls a StatefulSet configured whose claims have Kubernetes' own fields, though nothing has changed.
        if changed := [line for line in lines if not line.endswith(" unchanged") and "statefulset" not in line]:
            raise Failed(f"the second time: {changed}")
        if sets != {one["metadata"]["name"]: one["metadata"]["generation"] for one in namespace.get("statefulset")}:
            raise Failed("a StatefulSet has changed")
        if pods != {pod["metadata"]["uid"] for pod in namespace.get("pods")}:
            raise Failed("pods were replaced")
        told = namespace.kubectl(
            "exec",
            "deploy/press-pressroom-web",
            "--",
            "python",
            "manage.py",
            "smoke_test",
            "http://press-pressroom-web",
        )
        found.append(f"the second time nothing of {len(lines)} objects has changed; {told.strip().splitlines()[-1]}")
    except Failed as error:
        raise Failed(f"{error}\n{namespace.state()}") from error
    finally:
        namespace.delete()


@contextmanager
def held(namespace: Namespace, seconds: int) -> Iterator[None]:
    """A transaction that reads and writes go on beside, and that keeps a migration from changing the table."""
    lock = f"BEGIN; LOCK TABLE blog_post IN ROW SHARE MODE; SELECT pg_sleep({seconds})"
    psql = ["psql", "-U", "pressroom", "-d", "pressroom", "-qc", lock]
    command = ["kubectl", "-n", namespace.name, "exec", "-i", "press-postgres-0", "--", *psql]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as holder:
        mode = "SELECT count(*) FROM pg_locks WHERE relation = 'blog_post'::regclass AND mode = 'RowShareLock'"
        until(lambda: namespace.psql(mode) == "1", "the table is locked")
        try:
            yield
        finally:
            holder.terminate()


def ticks(namespace: Namespace) -> int:
    return int(namespace.psql(f"SELECT count(*) FROM taskruns_taskrun WHERE name = '{TICK}'"))


def long_migration(image: str, found: list[str]) -> None:
    """One that a lock holds up for long: the rollout waits with it, and schedules fire all the time."""
    namespace = Namespace("pressroom-e2e-migration")
    short = ["--set=web.replicas=1,migrate.wait=30"]
    every = (
        "from django_celery_beat.models import IntervalSchedule as I, PeriodicTask as P;"
        "every, _ = I.objects.get_or_create(every=2, period='seconds');"
        f"P.objects.create(name='tick', task='{TICK}', interval=every)"
    )
    try:
        install(namespace, *short)
        namespace.shell(every)
        until(lambda: ticks(namespace), "the schedule fires")
        with held(namespace, HELD):
            before, started = ticks(namespace), time.monotonic()
            install(namespace, *short, image=image)
            found.append(f"{time.monotonic() - started:.0f} s to ready")
            fired = ticks(namespace) - before
        # Every other second, and not fewer than half of it.
        if fired < HELD // 4:
            raise Failed(f"a schedule of every 2 s fired {fired} times in more than {HELD} s")
        found.append(f"a schedule of every 2 s fired {fired} times meanwhile")
    except Failed as error:
        raise Failed(f"{error}\n{namespace.state()}") from error
    finally:
        namespace.delete()


SCALED = ("web", "worker-emails")


class Fewest:
    """The fewest ready pods of each scaled component, as long as the block lasts."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.fewest = dict.fromkeys(SCALED, 10**6)
        self.stopping = threading.Event()

    def __enter__(self) -> Fewest:
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stopping.is_set():
            for deployment in self.namespace.get("deploy"):
                component = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
                if component in self.fewest:
                    ready = deployment["status"].get("readyReplicas", 0)
                    self.fewest[component] = min(self.fewest[component], ready)
            self.stopping.wait(0.2)

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()


def turn_scaling_on(namespace: Namespace) -> dict[str, int]:
    """Turn all scalers on where three pods run each. Returns the fewest ready pods. Raises Failed."""
    with Fewest(namespace) as watched:
        provider = "keda" if has_keda() else "hpa"
        minimum = "web.autoscaling.minReplicas=3,workers.emails.autoscaling.minReplicas=3"
        install(namespace, f"--set=web.autoscaling.enabled=true,autoscaling.provider={provider},{minimum}")
        until(namespace.settled, "all are ready")
    if fewer := {name: number for name, number in watched.fewest.items() if number < 3}:
        raise Failed(f"there were fewer pods for a moment: {fewer}")
    return watched.fewest
