"""From an empty namespace to serving, upgraded under load, rolled back, taken away and installed again."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chart.tools import CHART, ROOT
from tests.e2e.cluster import adopted, external, footprint, installations
from tests.e2e.cluster.documents import operations, posts
from tests.e2e.cluster.kube import (
    HELM,
    Failed,
    Namespace,
    Steps,
    load_image,
    need,
    run,
    succeeds,
    until,
)  # fmt: skip
from tests.e2e.cluster.stack import IMAGE, build, install, token

HERE = Path(__file__).resolve().parent
NEXT = "pressroom:e2e-next"
RATE = float(os.environ.get("RATE", "50"))
"""Requests a second during upgrades; a third of them publish, which starts three tasks each."""


def images(found: list[str]) -> None:
    build(NEXT, HERE / "next")
    footprint.image(found)


def restricted(namespace: Namespace) -> int:
    """How many pods run as nobody in particular, on a root file system that they cannot write. Raises Failed."""
    found = namespace.get("pods")
    for pod in found:
        for container in pod["spec"]["containers"]:
            security = pod["spec"].get("securityContext", {}) | container.get("securityContext", {})
            if not (security.get("runAsNonRoot") and security.get("readOnlyRootFilesystem")):
                raise Failed(f"{pod['metadata']['name']} is not restricted: {security}")
    for component in ("web", "worker-emails", "beat", "relay", "exporter"):
        deployment = f"deploy/press-pressroom-{component}"
        uid = namespace.kubectl("exec", deployment, "--", "id", "-u").strip()
        try:
            namespace.kubectl("exec", deployment, "--", "touch", "/srv/pressroom/written")
        except Failed as error:
            if "Read-only file system" not in str(error):
                raise
        else:
            raise Failed(f"{component} can write to its root file system")
        if uid != "10001":
            raise Failed(f"{component} runs as {uid}")
    return len(found)


class Background:
    """Readers and authors in a pod of their own, until ``end()``."""

    MOST = 60_000
    """Requests: a guard against a load that nobody ends."""

    def __init__(self, outside: Namespace, namespace: Namespace) -> None:
        self.outside = outside
        self.flag = f"/tmp/{secrets.token_hex(4)}"  # noqa: S108 - in the pod
        url = f"http://press-pressroom-web.{namespace.name}.svc"
        command = [
            "exec",
            "-i",
            "load",
            "--",
            "python",
            "-",
            url,
            token(namespace),
            str(RATE),
            str(self.MOST),
            self.flag,
        ]
        self.error: Exception | None = None
        self.told: dict[str, Any] = {}

        def work() -> None:
            try:
                script = (HERE / "load.py").read_text()
                self.told = json.loads(outside.kubectl(*command, given=script, timeout=1500.0))
            except Exception as error:
                self.error = error

        self.thread = threading.Thread(target=work)
        self.thread.start()
        until(self.runs, "the load runs")

    def runs(self) -> bool:
        """Whether requests come. Raises what ended them."""
        if self.error is not None:
            raise self.error
        there = self.outside.kubectl("exec", "load", "--", "ls", "/tmp")  # noqa: S108 - in the pod
        return f"{Path(self.flag).name}.running" in there.split()

    def end(self) -> None:
        """No more requests; those under way are answered."""
        self.outside.kubectl("exec", "load", "--", "touch", self.flag)

    def result(self, namespace: Namespace) -> str:
        """What became of the requests, and of every task that they started. Raises Failed where one was lost."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        told = self.told
        tasks = told.pop("tasks")
        unfinished = until(lambda: statuses(namespace, tasks), f"{len(tasks)} tasks end", timeout=300.0)
        line = (
            f"{told['requests']} requests in {told['seconds']} s, failed {told['failed']}, p50 {told['p50']} s, "
            f"p99 {told['p99']} s, longest {told['longest']} s; {len(tasks)} tasks: {unfinished}"
        )
        if told["failed"] or unfinished != f"succeeded {len(tasks)}":
            raise Failed(f"{line}\n{told['failures']}")
        return line


def statuses(namespace: Namespace, tasks: list[str]) -> str | None:
    """How many of the tasks have which status; None while one is not at its end."""
    code = (
        "import json, sys; from collections import Counter; from pressroom.models import TaskRun, LIVE;"
        "ids = json.load(sys.stdin); found = dict(TaskRun.objects.filter(pk__in=ids).values_list('pk', 'status'));"
        "print(json.dumps({'live': sum(s in LIVE for s in found.values()), 'missing': len(set(ids)) - len(found),"
        "'counts': Counter(found.values())}))"
    )
    told = json.loads(namespace.shell(code, given=json.dumps(tasks)).splitlines()[-1])
    if told["live"]:
        return None
    return ", ".join(
        f"{name} {count}" for name, count in {**told["counts"], "missing": told["missing"]}.items() if count
    )


def under_load(outside: Namespace, namespace: Namespace, change: Callable[[], object]) -> str:
    """The change while requests and tasks come, and for ten seconds more."""
    load = Background(outside, namespace)
    started = time.monotonic()
    try:
        change()
        took = time.monotonic() - started
        time.sleep(10)  # of life after it, which is part of what is tried
    finally:
        load.end()
    return f"{took:.0f} s; {load.result(namespace)}"


def refusals(found: list[str]) -> None:
    """What cannot work says so in a line."""
    namespace = Namespace("pressroom-e2e-refused")
    try:
        for title, arguments, where in (
            ("unknown queue", ["--set=workers.payments.replicas=2"], None),
            ("no such storage class", ["--set=postgres.persistence.storageClass=missing"], "persistentvolumeclaim"),
            ("no such image", ["--set=image.tag=missing"], "pod"),
        ):
            command = ["install", "press", str(CHART), "--set=image.repository=pressroom,image.tag=e2e", *arguments]
            if where is None:
                try:
                    namespace.helm(*command)
                except Failed as error:
                    [line] = [line for line in str(error).splitlines() if "payments" in line][-1:]
                    found.append(f"{title}: {line.strip()}")
                    continue
                raise Failed(f"{title}: it was installed")
            namespace.helm(*command)
            found.append(f"{title}: {event(namespace, where)}")
            namespace.helm("uninstall", "press", "--wait")
            namespace.kubectl("delete", "pvc,secret", "--all")
    finally:
        namespace.delete()


def event(namespace: Namespace, kind: str) -> str:
    """The warning about something of that kind that is `missing`."""

    def warned() -> str | None:
        for event in namespace.get("events"):
            about = event["involvedObject"]["kind"].lower()
            if about == kind and event["type"] == "Warning" and "missing" in event["message"]:
                return str(event["message"]).strip().splitlines()[0]
        return None

    return str(until(warned, f"an event about a {kind}", timeout=120.0))


def wrong_password(found: list[str], first: Namespace) -> None:
    """Another release, on the first one's Postgres with a password that is not its."""
    namespace = Namespace("pressroom-e2e-password")
    try:
        namespace.kubectl("create", "secret", "generic", "database", "--from-literal=password=wrong")
        namespace.helm(
            "install", "press", str(CHART), "--set=image.repository=pressroom,image.tag=e2e,postgres.enabled=false",
            f"--set=externalDatabase.host=press-postgres.{first.name}.svc,externalDatabase.existingSecret=database",
        )  # fmt: skip

        def told() -> str | None:
            try:
                log = namespace.kubectl("logs", "-l", "app.kubernetes.io/component=migrate", "--tail=20")
            except Failed:  # its container is not there yet
                return None
            return next((line for line in log.splitlines() if "password" in line), None)

        found.append(str(until(told, "the migration's log says it")))
        try:
            namespace.helm("test", "press", "--timeout", "2m")
        except Failed:
            log = namespace.kubectl("logs", "press-pressroom-test").splitlines()
            found.append(f"helm test: {log[-1] if log else 'no log'}")
        else:
            raise Failed("helm test passed with a wrong password")
    finally:
        namespace.delete()


def release(steps: Steps, namespace: Namespace, outside: Namespace) -> None:
    """A release's life. Raises Failed."""
    outside.kubectl(
        "run", "load", f"--image={IMAGE}", "--image-pull-policy=IfNotPresent", "--command", "--", "sleep", "86400"
    )
    with steps.step("install to ready") as found:
        found.append(f"{install(namespace):.0f} s")
    with steps.step("memory of the idle stack") as found:
        footprint.memory(namespace, found)
    with steps.step("helm test") as found:
        namespace.helm("test", "press", "--timeout", "5m")
        found.append(namespace.kubectl("logs", "press-pressroom-test").strip().splitlines()[-1])
    with steps.step("restricted, nobody's, read-only") as found:
        found.append(f"{restricted(namespace)} pods")
    with steps.step("a worker's start to its first task") as found:
        footprint.starts(namespace, found)
    outside.kubectl("wait", "--for=condition=Ready", "pod/load", "--timeout=180s")
    with steps.step("upgrade with a migration, under load") as found:
        found.append(under_load(outside, namespace, lambda: install(namespace, image=NEXT)))
        schema = "from pressroom.database.readiness import missing; print('schema:', missing() or 'as far as the code')"
        found.append(namespace.shell(schema).strip())
    with steps.step("rollback to the old code on the new schema, under load") as found:
        back = ["rollback", "press", "1", "--wait", "--timeout", "5m"]
        found.append(under_load(outside, namespace, lambda: namespace.helm(*back)))
    with steps.step("autoscaling turned on, under load") as found:
        install(namespace, "--set=web.replicas=3,workers.emails.replicas=3")
        fewest: dict[str, int] = {}
        found.append(under_load(outside, namespace, lambda: fewest.update(installations.turn_scaling_on(namespace))))
        found.append(f"fewest ready pods: {fewest}")
        # The scalers have written the numbers of pods, which Helm 4 leaves to them.
        install(namespace, "--force-conflicts")
    with steps.step("uninstall, and install again") as found:
        before = posts(namespace)
        namespace.helm("uninstall", "press", "--wait", "--timeout", "5m")
        found.append(f"{install(namespace):.0f} s to ready")
        after = posts(namespace)
        if before != after:
            raise Failed(f"{before} posts before, {after} after")
        found.append(f"all {after} posts are there")
    with steps.step("make demo, through a port-forward") as found:
        install(namespace, "--set=demo.enabled=true")
        seeded = ["--for=condition=complete", "job", "-l", "app.kubernetes.io/component=migrate"]
        namespace.kubectl("wait", *seeded, "--timeout=180s")
        with namespace.forward("press-pressroom-web", 80) as url:
            found.append(demo(url))
    with steps.step("the commands of docs/operations.md") as found:
        operations(namespace, NEXT.partition(":")[2], found)
    with steps.step("wrong password of an external database") as found:
        wrong_password(found, namespace)


def others(found: list[str]) -> None:
    """On servers that are not the chart's, by TLS, with a password that a URL would not bear."""
    namespace = Namespace("pressroom-e2e-external")
    try:
        arguments = external.start(namespace, password="p@ss/word:#1 %")
        found.append(f"{install(namespace, *arguments):.0f} s to ready")
        namespace.helm("test", "press", "--timeout", "5m")
        found.append(namespace.kubectl("logs", "press-pressroom-test").strip().splitlines()[-1])
    except Failed as error:
        raise Failed(f"{error}\n{namespace.state()}") from error
    finally:
        namespace.delete()


def kustomized(found: list[str]) -> None:
    """The overlay for development, from nothing to a report."""
    overlay = ROOT / "deploy" / "kustomize" / "overlays" / "dev"
    run("docker", "tag", IMAGE, "pressroom:dev")
    load_image("pressroom:dev")
    namespace = Namespace("pressroom")
    try:
        started = time.monotonic()
        namespace.kubectl("apply", "-k", str(overlay))
        namespace.kubectl("rollout", "status", "deployment", "--timeout=300s", timeout=400.0)
        found.append(f"{time.monotonic() - started:.0f} s to ready")
        told = namespace.kubectl(
            "exec", "deploy/pressroom-web", "--", "python", "manage.py", "smoke_test", "http://pressroom-web"
        )
        found.append(told.strip().splitlines()[-1])
    finally:
        namespace.delete()


def demo(url: str) -> str:
    """What `make demo` says of the mails that it had sent. Raises Failed."""
    told = run(sys.executable, "-P", str(ROOT / "app" / "local" / "demo.py"), url)
    print(told, file=sys.stderr)
    return next(line for line in told.splitlines() if "mails sent" in line)


def composed(found: list[str]) -> None:
    """The same image without a cluster."""
    compose = ["docker", "compose"] if succeeds("docker", "compose", "version") else ["docker-compose"]
    with socket.socket() as free, socket.socket() as other:
        free.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, exporter = (str(one.getsockname()[1]) for one in (free, other))
    command = ["env", f"PORT={port}", f"EXPORTER_PORT={exporter}", *compose, "-p", "pressroom-e2e"]
    started = time.monotonic()
    try:
        run(*command, "up", "-d", "--build")

        def healthy() -> bool:
            told = run("docker", "inspect", "-f", "{{json .State}}", *run(*command, "ps", "-q").split())
            states = [json.loads(line) for line in told.splitlines()]
            return all(
                state.get("Health", {}).get("Status") == "healthy"
                or (state["Status"], state["ExitCode"]) == ("exited", 0)
                for state in states
            )

        until(healthy, "every container is healthy, the migration at its end", timeout=300.0)
        found.append(f"{time.monotonic() - started:.0f} s to healthy")
        found.append(demo(f"http://localhost:{port}"))
    except Failed as error:
        raise Failed(f"{error}\n{run(*command, 'ps')}\n{run(*command, 'logs', '--tail=15')}") from error
    finally:
        run(*command, "down", "-v", "-t", "5")


def main(*names: str) -> int:
    """Run every case, or those of these names, as in CASES."""
    need("kubectl", "docker")
    if not Path(HELM).exists():
        raise Failed(f"{HELM} is not there: `make e2e` builds it")
    print(run("kubectl", "version"), file=sys.stderr)
    steps = Steps()
    made: list[Namespace] = []
    try:
        with steps.step("images built and loaded") as found:
            images(found)
        if not names or "release" in names:
            made += [Namespace("pressroom-e2e"), Namespace("pressroom-e2e-outside", restricted=False)]
            release(steps, *made)
            if not os.environ.get("KEEP"):
                made[0].delete()
        for name, (title, case) in CASES.items():
            if name in names or not names:
                with steps.step(title) as found:
                    case(found)
    except Failed as error:
        print(f"\n{error}\n", *(namespace.state() for namespace in made[:1]), sep="\n", file=sys.stderr)
        return 1
    finally:
        print(steps.table())
        for namespace in made:
            if not os.environ.get("KEEP"):
                namespace.delete()
    return 0


CASES: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    "refusals": ("what is refused, or told by an event", refusals),
    "external": ("on a Redis and a Postgres of others, by TLS", others),
    "names": (
        "two releases of 53 characters in one namespace, nasty passwords, a random user",
        installations.two_releases,
    ),
    "migration": (
        "a migration longer than the deadline of a rollout",
        lambda found: installations.long_migration(NEXT, found),
    ),
    "adopted": ("docs/adopt.md: a project of one's own, by its own image", adopted.adopted),
    "twice": ("helm template | kubectl apply, twice", installations.twice),
    "kustomize": ("kubectl apply -k overlays/dev", kustomized),
    "compose": ("docker compose up", composed),
}
"""By name, what a step is called and does, after the life of a release (``release``)."""
if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
