"""``make bench-fanout``: mails a post to all subscribers of its author, with a real relay and real workers.

PostgreSQL (durable, as installed) and Valkey run in a temporary folder. The mail servers are processes on loopback that
accept and count every mail. First a million subscribers are mailed in batches. Then mails go out one by one, by SMTP to
a server that takes its time, with 1, 2, 4 and 8 slots. Welcome mails are sent meanwhile.

The exit code is 1 if a recipient was missed or mailed twice. Figures are printed beside their aims, not judged. With
``--write`` they are written into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.local.servers import PROJECT, Postgres
from bench.figures import percentile
from bench.mail_servers import Counted, MailServer, mail_server, serve_like_sendgrid, serve_smtp
from bench.stack import stack_with_services
from bench.trees import cpu, memory

SLOTS = (1, 2, 4, 8)
BATCH_SLOTS = 4
TAKES = 0.05
"""Seconds that the slow mail server takes for a mail."""
ROW = 30.0
"""Seconds that each number of slots should take by SMTP."""
STUCK = 300.0
"""Seconds without progress. This only guards against a hang."""
EVERY = 0.4
"""Seconds between two welcome mails."""


@dataclass
class Measured:
    """One mailing. CPU is in seconds, memory in MB."""

    title: str
    slots: int
    recipients: int
    seconds: float = 0.0
    """From the first mail's chunk to the end of the mailing's own run, beginning with the call."""
    counted: Counted = field(default_factory=Counted)
    begin_mb: float = 0.0
    most_mb: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    wal: float = 0.0
    """MB of Postgres's log."""
    welcome: list[float] = field(default_factory=list)
    """Seconds from the call of each welcome mail to its arrival, sorted. Infinite for one that did not arrive."""

    @property
    def rate(self) -> float:
        return self.recipients / self.seconds

    @property
    def is_whole(self) -> bool:
        """Whether everybody was mailed exactly once."""
        return self.counted.different == self.recipients and not self.counted.twice


@contextmanager
def running(name: str, command: list[str], folder: Path, ready: str, **env: str) -> Iterator[psutil.Process]:
    """Run a process of the stack. Yields it once its log contains ``ready``; kills it with its children at the end."""
    log = folder / f"{name}.log"
    with log.open("w") as output:
        popen = subprocess.Popen(
            [sys.executable, *command], cwd=PROJECT, env={**os.environ, **env}, stdout=output, stderr=output
        )
    process = psutil.Process(popen.pid)
    try:
        while ready not in log.read_text():
            if popen.poll() is not None:
                raise SystemExit(f"{name} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield process
    finally:
        for one in [*process.children(recursive=True), process]:
            one.kill()
        popen.wait()


def worker(queue: str, slots: int, folder: Path, **env: str) -> Any:
    command = ["-m", "celery", "-A", "app", "worker", "-l", "info", "-Q", queue, "-n", f"{queue}@%h"]
    options = ["-P", "prefork", "-c", str(slots), "--without-gossip", "--without-mingle"]
    return running(f"worker-{queue}", command + options, folder, "ready.", **env)


def prepare(recipients: int) -> int:
    """Create subscribers s1, s2 … of an author, and her published post. Returns the id of the post."""
    from django.contrib.auth import get_user_model
    from django.db import connection, transaction

    from app.blog import services
    from app.blog.models import Post

    author = get_user_model().objects.get_or_create(username="author", email="author@example.com")[0]
    Post.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE blog_subscriber, blog_subscription, blog_delivery")
        cursor.execute(
            "INSERT INTO blog_subscriber (email, active, token, created_at)"
            " SELECT 's' || n || '@example.com', true, md5(n::text), now() FROM generate_series(1, %s) n",
            [recipients],
        )
        cursor.execute(
            "INSERT INTO blog_subscription (author_id, subscriber_id, token, confirmed_at, created_at)"
            " SELECT %s, id, md5('to' || id), now(), now() FROM blog_subscriber ORDER BY id",
            [author.pk],
        )
        cursor.execute("VACUUM ANALYZE blog_subscriber, blog_subscription")
    post = services.post_create(author=author, title="News of the day", body="A table does not forget. " * 40)
    with transaction.atomic():
        services.post_publish(post_id=post.pk)
    return post.pk


class Welcome(threading.Thread):
    """Calls welcome mails at even intervals until it is ended, and notes when."""

    def __init__(self, most: int = 1_000) -> None:
        from django.contrib.auth import get_user_model

        super().__init__(daemon=True)
        users = get_user_model().objects
        users.filter(username__startswith="welcome").delete()
        users.bulk_create(users.model(username=f"welcome{n}", email=f"w{n}@example.com") for n in range(most))
        self._keys = list(users.filter(username__startswith="welcome").values_list("pk", "email"))
        self._ending = threading.Event()
        self.called: dict[str, float] = {}

    def warm(self) -> None:
        """Send some mails first, so that the worker has loaded what it needs, as that of a site has."""
        from app.accounts.tasks import send_welcome_email
        from pressroom.models import LiveRun

        for pk, _ in self._keys[:6]:
            send_welcome_email.delay(pk)
        del self._keys[:6]
        while LiveRun.objects.exists():
            time.sleep(0.05)

    def run(self) -> None:
        """Go on until the event is set."""
        from django.db import connection

        from app.accounts.tasks import send_welcome_email

        for pk, email in self._keys:
            if self._ending.wait(EVERY):
                break
            self.called[email] = time.time()
            send_welcome_email.delay(pk)
        connection.close()

    def end(self) -> None:
        self._ending.set()
        self.join()

    def waits(self, arrived: dict[str, float]) -> list[float]:
        """Return the seconds from each call to the mail's arrival."""
        return sorted(arrived.get(email, float("inf")) - at for email, at in self.called.items())


def told(post_id: int) -> int:
    from django.db.models import Sum

    from app.blog.models import NotificationChunk

    return NotificationChunk.objects.filter(post=post_id).aggregate(Sum("told"))["told__sum"] or 0


def watch(post_id: int, recipients: int, bulk: psutil.Process, measured: Measured) -> None:
    """Wait until the mailing has ended. Notes its time and the memory of the worker."""
    from app.blog.tasks import notify_subscribers
    from pressroom.models import LIVE, Status, TaskRun

    called = notify_subscribers.delay(post_id)
    done, at = 0, time.monotonic()
    while True:
        run = TaskRun.of(called)
        if (now := told(post_id)) > done:
            done, at = now, time.monotonic()
        # From then on each slot has loaded what it needs.
        if done >= recipients // 10:
            measured.most_mb = max(measured.most_mb, memory([bulk]))
            measured.begin_mb = measured.begin_mb or measured.most_mb
        if sys.stdout.isatty():
            print(f"\r  {done:,} of {recipients:,} mailed\033[K", end="", flush=True)
        if run.status not in LIVE:
            break
        if time.monotonic() - at > STUCK:
            raise SystemExit(f"no progress for {STUCK:.0f} s: {run} {run.error}")
        time.sleep(0.5)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if run.status != Status.SUCCEEDED or run.finished_at is None:
        raise SystemExit(f"{run} {run.error}\n{run.traceback}")
    measured.seconds = (run.finished_at - run.created_at).total_seconds()


def wal() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(cursor.fetchall()[0][0])


def measure(
    title: str, slots: int, recipients: int, url: str, serving: Callable[[], Any], folder: Path, postgres: Postgres,
    with_welcome: bool = False,
) -> Measured:  # fmt: skip
    """Mail the post to this many subscribers. ``url`` is the mail server's, with a placeholder for its port."""
    measured = Measured(title, slots, recipients)
    post_id = prepare(recipients)
    server: MailServer
    assert postgres.process is not None
    with serving() as server:
        env = {"EMAIL_URL": url.format(server.port), "DEFAULT_FROM_EMAIL": "Press <press@press.example>"}
        with (
            running("relay", ["manage.py", "relay"], folder, "relay: ready") as relay,
            worker("emails", 2, folder, **env) as emails,
            worker("bulk", slots, folder, **env) as bulk,
        ):
            welcome = Welcome()
            welcome.warm()
            processes = {
                "workers": bulk, "emails": emails, "relay": relay, "mail server": server.process,
                "Postgres": psutil.Process(postgres.process.pid),
            }  # fmt: skip
            begun = {name: cpu([process]) for name, process in processes.items()}
            log = wal()
            if with_welcome:
                welcome.start()
            watch(post_id, recipients, bulk, measured)
            measured.cpu = {name: cpu([process]) - begun[name] for name, process in processes.items()}
            measured.wal = (wal() - log) / 1e6
            if with_welcome:
                welcome.end()
                time.sleep(3.0)  # for the last of them to arrive
        measured.counted = server.end()
    measured.welcome = welcome.waits(measured.counted.others)
    return measured


def by_batches(recipients: int, folder: Path, postgres: Postgres) -> Measured:
    return measure(
        "batches of 1,000", BATCH_SLOTS, recipients, "sendgrid+http://:key@127.0.0.1:{}",
        lambda: mail_server(serve_like_sendgrid, recipients), folder, postgres, with_welcome=True,
    )  # fmt: skip


def by_smtp(slots: int, seconds: float, folder: Path, postgres: Postgres) -> Measured:
    recipients = int(seconds * slots / TAKES)
    return measure(
        f"SMTP, {slots} slot{'s' * (slots > 1)}", slots, recipients, "smtp://127.0.0.1:{}",
        lambda: mail_server(serve_smtp, recipients, TAKES), folder, postgres, with_welcome=slots == BATCH_SLOTS,
    )  # fmt: skip


def told_of(measured: Measured) -> str:
    """Return the figures of a mailing as text."""
    counted, each = measured.counted, measured.recipients / 1000
    missed = measured.recipients - counted.different
    lines = [
        measured.title,
        f"  {measured.recipients:,} recipients in {measured.seconds:,.1f} s: {measured.rate:,.0f} a second",
        f"  {counted.mails:,} mails by {counted.calls:,} calls; missed {missed:,}, mailed twice {counted.twice:,}",
        f"  memory of the worker: {measured.begin_mb:.1f} MB after a tenth, {measured.most_mb:.1f} MB at most",
        "  CPU ms per 1,000 recipients: "
        + ", ".join(f"{name} {seconds * 1000 / each:,.0f}" for name, seconds in measured.cpu.items())
        + f"; {measured.wal * 1000 / each:,.0f} KB of WAL",
    ]
    if measured.welcome:
        waits = [f"{percentile(measured.welcome, share) * 1000:,.0f}" for share in (0.5, 0.99)]
        lines.append(f"  {len(measured.welcome)} welcome mails, call to arrival: p50 {waits[0]} ms, p99 {waits[1]} ms")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipients", type=lambda text: int(re.sub(r"[_,]", "", text)))
    parser.add_argument("--seconds", type=float, default=ROW, help="that each row by SMTP should take")
    parser.add_argument("--slots", type=int, nargs="*", default=SLOTS, help="of the rows by SMTP")
    parser.add_argument("--write", action="store_true", help="write table and picture into docs/")
    given = parser.parse_args()
    rows: list[Measured] = []
    with stack_with_services() as (folder, postgres):
        if given.recipients:
            rows.append(by_batches(given.recipients, folder, postgres))
            print(told_of(rows[-1]), flush=True)
        for slots in given.slots:
            rows.append(by_smtp(slots, given.seconds, folder, postgres))
            print(told_of(rows[-1]), flush=True)
    if given.write:
        from bench.fanout_page import write_page

        write_page(rows)
    return 0 if all(row.is_whole for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
