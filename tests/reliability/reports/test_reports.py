"""Reports for real: ordered over HTTP, computed by workers in parallel, downloaded by the link."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from pypdf import PdfReader
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog.models import Delivery, Post, Subscriber
from app.blog.subscriptions.services import subscriptions_add
from app.files.models import StoredFile
from app.reports.summaries import yesterday
from app.reports.tasks import send_daily_summary
from pressroom.models import Status, TaskRun
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until
from tests.unit.conftest import client_of, permit

JANUARY = datetime(2026, 1, 5, 12, 30, tzinfo=ZoneInfo("Asia/Seoul"))
LIMIT = 256 * 1024 * 1024
"""Bytes of memory that a worker's process may take."""


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create_user("kim", "kim@example.com", "a-long-passphrase-1")


@pytest.fixture
def client(user: User) -> APIClient:
    return client_of(user)


def subscribe(count: int) -> None:
    subscriptions_add(author=User.objects.get(), emails=(f"subscriber-{n}@example.com" for n in range(count)))
    Subscriber.objects.update(created_at=JANUARY)


def order(client: APIClient, **change: str) -> dict[str, Any]:
    answer = client.post("/api/reports/", {"type": "activity", "period": "2026-01", "format": "pdf"} | change)
    assert answer.status_code == 202, answer.content
    assert answer["Location"] == answer.json()["url"]
    assert answer["Retry-After"] == "1"
    task: dict[str, Any] = answer.json()
    return task


def watch(client: APIClient, task: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The task as its client sees it once it has ended, and the progress that was seen until then."""
    seen: list[Any] = []

    def ended() -> dict[str, Any] | None:
        told: dict[str, Any] = client.get(task["url"]).json()
        kept = ("id", "url", "name", "queue", "about", "created_at")
        assert [told[name] for name in kept] == [task[name] for name in kept]
        assert told["status"] in ("queued", "running", "retrying", "succeeded", "failed"), told
        if told["progress"] not in seen[-1:]:
            seen.append(told["progress"])
        return told if told["status"] in ("succeeded", "failed") else None

    return until(ended, "the task has ended", timeout=240), seen


def download(client: APIClient, task: dict[str, Any]) -> bytes:
    report = client.get(task["result_url"]).json()
    assert (report["status"], report["error"]) == ("ready", "")
    answer = APIClient().get(report["download"])
    content = b"".join(answer.streaming_content)
    assert answer.status_code == 200
    assert int(answer["Content-Length"]) == len(content) == report["size"]
    return content


def test_a_report_is_ordered_watched_and_downloaded(client: APIClient, user: User, stack: Stack) -> None:
    subscribe(30)
    for number in range(100):
        post = Post.objects.create(
            author=user, title=f"큐는 잊는다 {number}", slug=f"post-{number}", body="b",
            status="published", published_at=JANUARY + timedelta(minutes=number),
        )  # fmt: skip
    Delivery.objects.bulk_create(Delivery(post=post, subscriber=one) for one in Subscriber.objects.all())
    Delivery.objects.update(at=JANUARY)
    stack.relay()
    stack.worker("--concurrency=4")
    task, progress = watch(client, order(client))

    assert task["status"] == "succeeded", task["error"]
    # The API reads the progress before the status, so the answer that first says "succeeded" may have an older one.
    assert client.get(task["url"]).json()["progress"] == {"current": 6, "total": 6, "message": "sections"}
    steps = [step["current"] for step in progress if step["current"] is not None]
    assert steps == sorted(steps)
    assert task["result"] == {"url": task["result_url"].removeprefix("http://testserver")}
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(download(client, task))).pages]
    assert "Activity report" in pages[0]
    assert "큐는 잊는다 99" in "".join(pages)
    until(done, "nothing is left to do")
    # The sections' own files are gone.
    assert StoredFile.objects.count() == 1
    assert client.delete(task["result_url"]).status_code == 204
    until(lambda: not StoredFile.objects.exists(), "the file went with its report")


def test_sections_are_computed_in_parallel_by_several_workers(client: APIClient, stack: Stack) -> None:
    stack.relay()
    for _ in range(2):
        stack.worker("--concurrency=1", "--queues=reports,default")
    tasks = [order(client) for _ in range(4)]
    for task in tasks:
        assert watch(client, task)[0]["status"] == "succeeded"
    workers = TaskRun.objects.filter(name="app.reports.tasks.build_section").values_list("worker", flat=True)
    assert len(workers) == 20
    assert len(set(workers)) == 2


@contextmanager
def without_table(name: str) -> Iterator[None]:
    """The table is not to be had."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO {name}_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name}_away RENAME TO {name}")


def test_a_section_that_fails_fails_the_report_with_its_reason(client: APIClient, stack: Stack) -> None:
    stack.relay()
    stack.worker("--concurrency=2")
    with without_table("blog_delivery"):
        ordered = order(client)
        task, _ = watch(client, ordered)
    assert task["status"] == "failed"
    assert task["error"]["type"] == "ChordError"
    assert "blog_delivery" in task["error"]["detail"]

    def told() -> Any:
        document = client.get(ordered["report"]).json()
        return document if document["status"] == "failed" else None

    report = until(told, "the report has failed, too")
    assert report["error"] == "It could not be made. The task shows the reason."
    assert (report["download"], report["progress"]["current"]) == (None, 1)
    until(done, "nothing is left to do")
    # Each was tried four times before it was given up.
    failed = TaskRun.objects.filter(name="app.reports.tasks.build_section", status=Status.DEAD)
    assert set(failed.values_list("attempt", flat=True)) == {4}
    assert not TaskRun.objects.filter(name="app.reports.tasks.assemble_report").exists()


def test_a_failure_that_passes_fails_nothing(client: APIClient, stack: Stack) -> None:
    stack.relay()
    stack.worker("--concurrency=2")
    with without_table("blog_delivery"):
        ordered = order(client)
        retried = TaskRun.objects.filter(name="app.reports.tasks.build_section", status=Status.RETRYING)
        until(retried.exists, "a section is to be tried again")
    assert watch(client, ordered)[0]["status"] == "succeeded"


def test_the_daily_summary_is_about_the_day_before_it_was_due(user: User, stack: Stack, tmp_path: Path) -> None:
    User.objects.update(is_staff=True)
    stack.relay()
    stack.worker(VAR_DIR=str(tmp_path))
    assert send_daily_summary.delay().get(timeout=120) == 1
    assert TaskRun.objects.get().arguments == ([yesterday().isoformat()], {})
    [mail] = (message_from_bytes(path.read_bytes()) for path in (tmp_path / "mail").glob("*.eml"))
    assert mail["Message-ID"] == f"<summary-{yesterday()}-{user.pk}@example.com>"
    assert [part.get_content_type() for part in mail.walk()][-1] == "application/pdf"


def test_a_hundred_thousand_rows_in_256_mb(client: APIClient, user: User, stack: Stack) -> None:
    permit(user, "reports.order_subscribers")
    subscribe(100_000)
    stack.relay()
    worker = stack.worker("--concurrency=1")
    peaks = Peaks(worker)
    task, _ = watch(client, order(client, type="subscribers"))
    peaks.look()
    assert task["status"] == "succeeded", task["error"]
    pdf = download(client, task)
    print(f"100,000 rows: {max(peaks.seen.values()) / 2**20:.0f} MB, {len(pdf) / 1e6:.1f} MB of PDF")
    assert max(peaks.seen.values()) < LIMIT, peaks.seen
    reader = PdfReader(io.BytesIO(pdf))
    assert len(reader.pages) > 2_000
    assert "subscriber-99999@example.com" in reader.pages[-1].extract_text()

    task, _ = watch(client, order(client, type="subscribers", format="csv"))
    rows = list(csv.reader(io.StringIO(download(client, task).decode("utf-8-sig"))))
    assert len([row for row in rows if row[-1:] == ["active"]]) == 100_000
    peaks.look()
    assert max(peaks.seen.values()) < LIMIT, peaks.seen


class Peaks:
    """The most memory that each of a worker's processes ever had resident, in bytes."""

    def __init__(self, worker: Process) -> None:
        self.worker = worker
        self.seen: dict[int, int] = {}

    def look(self) -> None:
        for pid in self.worker.children():
            status = Path(f"/proc/{pid}/status").read_text()
            [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
            self.seen[pid] = int(line.split()[1]) * 1024
        assert self.seen
