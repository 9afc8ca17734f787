"""A dataset in which something of everything has happened, by real calls, a relay, workers and a web process."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

from celery import chord, group
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import services as blog
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import notify_subscribers
from app.integrations.tasks import call_external_api
from pressroom import operator_actions
from pressroom.bulk import orders
from pressroom.enqueue.ownership import owned_by
from pressroom.models import BulkAction, Status, TaskRun, Worker
from pressroom.sql.run_filter import RunFilter
from tests.support.probes import tasks
from tests.support.processes import Process, Stack
from tests.support.waiting import until

PASSWORD = "a-long-passphrase-1"


@dataclasses.dataclass
class Dataset:
    """What the tests need to know of it."""

    stack: Stack
    url: str
    gate: Path
    """A file that does not exist: what runs ends once it does."""
    root: User
    report: TaskRun
    """Has called others."""
    held: TaskRun
    """Runs."""
    action: BulkAction
    """Has ended."""


def web(stack: Stack) -> str:
    """A real web process, as in production but for its port. Returns its address."""
    command = ["gunicorn", "app.wsgi", "--bind", "127.0.0.1:0", "--threads", "4", "--worker-tmp-dir", str(stack.folder)]
    process = stack.start([sys.executable, "-m", *command], "Listening at", SECRET_KEY=settings.SECRET_KEY)
    found = re.search(r"Listening at:? .*?(http://127\.0\.0\.1:\d+)", process.output())
    assert found, process.output()
    return found[1]


def make_dataset(stack: Stack) -> Dataset:
    """Start everything, and call tasks until there is a run in every status and a worker in every state."""
    gate = stack.folder / "gate"
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    stack.relay()
    stack.worker("-Q", "default", "-n", "worker-default@%h", EXTERNAL_ALLOWED_NETWORKS="127.0.0.0/8")
    stack.worker("-Q", "emails,bulk", "-n", "worker-emails@%h", SECRET_KEY=settings.SECRET_KEY)  # signs links in mails
    reports = stack.worker("-Q", "reports", "-n", "worker-reports@%h", "-c", "1")
    beat = ["celery", "-A", "app", "beat", "-l", "info", f"--pidfile={stack.folder / 'beat.pid'}"]
    stack.start([sys.executable, "-m", *beat], "beat: Starting...")
    url = web(stack)
    with owned_by(root):
        report = order_report(root)
        _publish(root)
        _fail()
        until(lambda: not _live(report.celery_id), "the report is made")
        _end(stack.worker("-Q", "reports", "-n", "worker-gone@%h", "-c", "1"), reports)
        # They run as long as there are tests, which is longer than the queue allows on a busy machine.
        limits = {"soft_time_limit": 3500, "time_limit": 3600}
        held = TaskRun.of(tasks.hold.apply_async((str(stack.folder / "notes"), "long", str(gate)), **limits))
        tasks.steps.apply_async((40, str(gate)), **limits)
        until(lambda: TaskRun.objects.filter(status=Status.RUNNING).count() == 2, "both slots are in use")
        for number in range(3):
            tasks.effect.delay(str(stack.folder / "notes"), f"waits {number}")
    return Dataset(stack, url, gate, root, report, held, _act_on_many(root))


def _act_on_many(root: User) -> BulkAction:
    """Cancel 62 runs, run two of them again, and then all of them: an action that has skipped two."""
    for number in range(62):
        tasks.effect.apply_async(["/dev/null", f"of an action {number}"], countdown=86_400)
    _acted(BulkAction.Kind.CANCEL, RunFilter(text="of an action"), root)
    cancelled = RunFilter(text="of an action", status=Status.CANCELLED)
    for run in TaskRun.objects.filter(status=Status.CANCELLED).order_by("-pk")[:2]:
        operator_actions.run_again(run=run, user=root)
    return _acted(BulkAction.Kind.RUN_AGAIN, cancelled, root)


def _acted(kind: str, wanted: RunFilter, root: User) -> BulkAction:
    action = orders.order(kind=kind, wanted=wanted, user=root)
    until(lambda: BulkAction.objects.exclude(ended_at=None).filter(pk=action.pk).exists(), f"{action} has ended")
    action.refresh_from_db()
    return action


def _live(celery_id: str) -> bool:
    return TaskRun.objects.filter(celery_id=celery_id, finished_at=None).exists()


def order_report(root: User) -> TaskRun:
    """What was ordered by the API."""
    client = APIClient()
    client.force_authenticate(root)
    answer = client.post("/api/reports/", {"type": "activity", "period": "2026-01", "format": "pdf"})
    assert answer.status_code == 202, answer.content
    return TaskRun.objects.get(pk=answer.json()["id"])


def _publish(root: User) -> None:
    subscriptions_add(author=root, emails=(f"reader-{n}@example.com" for n in range(30)))
    post = blog.post_create(author=root, title="What a queue forgets", body="A table does not.")
    with transaction.atomic(), owned_by(root):
        blog.post_publish(post_id=post.pk)
        notify_subscribers.delay(post.pk)


def _fail() -> None:
    """Dead letters of two kinds, a retry that waits, and what was cancelled and has expired."""
    for order in ("A-17", "A-18", "B-3"):
        tasks.fail.delay(f"order {order}")
    call_external_api.delay("http://10.0.0.1/never")
    call_external_api.delay("http://127.0.0.1:9/closed")
    tasks.effect.apply_async(["/dev/null", "too late"], countdown=0.1, expires=0.05)
    cancelled = TaskRun.of(tasks.effect.apply_async(["/dev/null", "내일"], countdown=86_400))
    tasks.effect.apply_async(["/dev/null", "tomorrow"], countdown=86_400)
    group(tasks.effect.s("/dev/null", str(n)) for n in range(40)).delay()
    chord([tasks.effect.s("/dev/null", str(n)) for n in range(3)])(tasks.effect.si("/dev/null", "all"))
    operator_actions.run_cancel(run=cancelled, user=User.objects.get(username="root"))
    wanted = {Status.DEAD, Status.RETRYING, Status.CANCELLED, Status.EXPIRED, Status.SUCCEEDED}
    until(lambda: wanted <= set(TaskRun.objects.values_list("status", flat=True)), f"there is one of each of {wanted}")
    due = TaskRun.objects.filter(name="probe.effect", status=Status.QUEUED, run_at__lt=timezone.now())
    until(lambda: not due.exists(), "the quick ones are done")


def _end(lost: Process, drained: Process) -> None:
    lost.kill()
    drained.stop()
    until(lambda: Worker.objects.filter(lost=True).exists(), "the killed worker's silence was noticed")
    until(lambda: Worker.objects.exclude(dead_at=None).filter(lost=False).exists(), "the other one has signed off")


def spread(seconds: int) -> None:
    """Move what has ended back in time, so that a picture shows a past: nobody waits for one. It is counted again."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM taskruns_figure; DELETE FROM taskruns_figuresmark")
        cursor.execute(
            f"""
            WITH moved AS (
                SELECT id, make_interval(secs => abs(hashtext(id::text)) % {seconds}) AS back,
                    make_interval(secs => abs(hashtext(id::text || 'w')) % 900 / 100.0) AS wait
                FROM taskruns_endedrun WHERE started_at IS NOT NULL AND queue <> 'reports'
            )
            UPDATE taskruns_endedrun t SET run_at = run_at - back - wait, started_at = started_at - back,
                finished_at = finished_at - back
            FROM moved WHERE moved.id = t.id
            """
        )
