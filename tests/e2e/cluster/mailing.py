"""``make e2e-mailing``: a post mailed by a slow SMTP server, by one pod and by as many as KEDA starts.

The mail server prints every recipient. The test counts who was missed or mailed twice.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.e2e.cluster import external
from tests.e2e.cluster.autoscale import watching, worker
from tests.e2e.cluster.kube import Failed, Namespace, Steps, in_a_namespace, need, need_keda, until
from tests.e2e.cluster.stack import build, install

HERE = Path(__file__).resolve().parent
MAIL = "pressroom:e2e-slow-mail"
MAILS = int(os.environ.get("MAILS", "10000"))
TAKES = 0.2
"""Seconds that the server takes for a mail."""
MOST = 8
"""Pods of the queue."""
QUEUE = "bulk"
WORKER = f"press-pressroom-worker-{QUEUE}"
MOST_MAILS = 100_000
"""With more, the kubelet might rotate the log of the mail server."""
LONGEST = 3600.0
"""Seconds of a mailing. This only guards against a hang."""


def build_images() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "mail")
        shutil.copytree(HERE / "slow_mail", folder)
        for name in ("aiosmtpd", "attr", "public"):
            found = importlib.util.find_spec(name)
            assert found is not None
            assert found.origin is not None
            shutil.copytree(Path(found.origin).parent, folder / "packages" / name)
        build(MAIL, folder)


def start_mail_server(namespace: Namespace) -> str:
    """Start it in a pod of its own. Returns its URL."""
    labels = {"app": "mail"}
    namespace.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mail"},
         "spec": {"selector": labels, "ports": [{"port": 8025}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mail", "labels": labels},
         "spec": {
             "automountServiceAccountToken": False,
             "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
             "containers": [{
                 "name": "serve", "image": MAIL, "imagePullPolicy": "IfNotPresent",
                 "args": ["python", "/srv/mail/serve.py", str(TAKES)], "securityContext": external.RESTRICTED,
                 "readinessProbe": {"tcpSocket": {"port": 8025}},
             }],
         }},
    )  # fmt: skip
    namespace.kubectl("wait", "--for=condition=Ready", "pod/mail", "--timeout=120s")
    return f"smtp://mail.{namespace.name}.svc:8025"


def publish(namespace: Namespace, author: str) -> str:
    """Publish a post of a new author with subscribers, and mail it. Returns the id of the mailing's run."""
    code = (
        "from django.contrib.auth import get_user_model; from django.db import transaction\n"
        "from app.blog import services; from app.blog.subscriptions.services import subscriptions_add\n"
        "from app.blog.tasks import notify_subscribers\n"
        f"author = get_user_model().objects.create_user('{author}', '{author}@example.com')\n"
        f"subscriptions_add(author=author, emails=(f'{author}-{{n}}@example.com' for n in range({MAILS})))\n"
        "post = services.post_create(author=author, title='News', body='A table does not forget. ' * 40)\n"
        "with transaction.atomic():\n"
        "    services.post_publish(post_id=post.pk)\n"
        "    called = notify_subscribers.delay(post.pk)\n"
        "print(called.id)\n"
    )
    return namespace.shell(code).split()[-1]


def seconds_of(namespace: Namespace, run: str) -> float | None:
    """Return how long the mailing took from its call, None while it lasts. Raises Failed if it failed."""
    status, seconds = namespace.psql(
        f"SELECT status, coalesce(extract(epoch FROM finished_at - created_at), 0) FROM taskruns_taskrun "
        f"WHERE celery_id = '{run}'",
    ).split("|")
    if status in ("dead", "cancelled", "expired", "replaced"):
        raise Failed(f"the mailing is {status}: {run}")
    return float(seconds) if status == "succeeded" else None


def mailing(namespace: Namespace, author: str, found: list[str]) -> float:
    """Mail a post, and wait until the queue is back to one pod. Returns the mailing's seconds."""
    with watching(namespace, QUEUE) as watched:
        run = publish(namespace, author)
        called = until(lambda: watched.samples, "the queue is watched")[-1].at
        # The depth costs nothing to ask, because it is watched anyway.
        seconds: float = until(
            lambda: not watched.samples[-1].depth and seconds_of(namespace, run), "the post is mailed", timeout=LONGEST
        )
        until(lambda: watched.samples[-1].replicas == 1, "one pod again", timeout=900.0)
    got = Counter(line for line in namespace.kubectl("logs", "pod/mail").splitlines() if line.startswith(f"{author}-"))
    missed, twice = MAILS - len(got), sum(count - 1 for count in got.values())
    most = max(sample.replicas for sample in watched.samples)
    first = next((f"{sample.at - called:.0f} s" for sample in watched.samples if sample.ready == MOST), "never")
    after = watched.samples[-1].at - called - seconds
    found.append(
        f"{MAILS} mails in {seconds:.0f} s, {MAILS / seconds:.1f} a second, missed {missed}, twice {twice}; at most "
        f"{most} pods, {MOST} ready after {first}, one again {after:.0f} s after the last mail"
    )
    if missed or twice:
        raise Failed(found[-1])
    return seconds


def scenes(steps: Steps, namespace: Namespace) -> None:
    """All of it. Raises Failed."""
    with steps.step("images built and loaded"):
        build_images()
    with steps.step("install"):
        values = [
            f"--set=extraEnv.EMAIL_URL={start_mail_server(namespace)}", "--set=postgres.maxConnections=300",
        ]  # fmt: skip
        install(namespace, *values)
    with steps.step(f"{TAKES:g} s a mail, one pod") as found:
        alone = mailing(namespace, "alone", found)
    with steps.step(f"{TAKES:g} s a mail, KEDA from 1 to {MOST} pods") as found:
        install(
            namespace, *values, "--set=autoscaling.provider=keda", "--set=worker.autoscaling.maxReplicas=2",
            f"--set=workers.{QUEUE}.autoscaling.maxReplicas={MOST}",
        )  # fmt: skip
        until(lambda: worker(namespace, QUEUE).get("readyReplicas") == 1, "one pod is ready")
        scaled = mailing(namespace, "scaled", found)
        found.append(f"{scaled / alone:.2f} of one pod's time")


def main() -> int:
    need("kubectl", "docker")
    need_keda()
    if MAILS > MOST_MAILS:
        raise Failed(f"MAILS may be {MOST_MAILS} at most")
    return in_a_namespace("pressroom-e2e-mailing", scenes)


if __name__ == "__main__":
    sys.exit(main())
