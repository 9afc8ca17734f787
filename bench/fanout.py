"""``make bench-fanout``: mails a post to all subscribers, with a real relay and one worker process.

PostgreSQL (durable, as installed) and Valkey run in a temporary folder. The mail servers are processes on loopback that
accept and count every mail, so the benchmark measures only our side. The exit code is 1 if a recipient was missed or
mailed twice. Speed is printed, not judged.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from aiosmtpd.smtp import SMTP

from app.local.servers import PROJECT
from bench.stack import stack

FLAT = 20
"""MB by which a worker may grow during the work."""
ONE_BY_ONE = 50
"""By SMTP only every 50th subscriber is mailed, because a million mails one by one would take too long."""
STUCK = 300.0
"""Seconds without progress. This only guards against a hang."""


class Counter:
    """Counts the recipients that were mailed, by addresses like ``s123@example.com``."""

    def __init__(self, recipients: int) -> None:
        self.seen = bytearray(recipients + 1)
        self.mails = self.calls = self.twice = 0

    def add(self, addresses: list[str]) -> None:
        self.calls += 1
        for address in addresses:
            number = int(address[1:].partition("@")[0])
            self.twice += self.seen[number]
            self.seen[number] = 1
        self.mails += len(addresses)

    def counted(self) -> dict[str, int]:
        return {"mails": self.mails, "different": sum(self.seen), "twice": self.twice, "calls": self.calls}


def serve_like_sendgrid(recipients: int, pipe: Connection) -> None:
    """Answer POST /v3/mail/send with 202. Sends its port through the pipe and, when asked, what it has counted."""
    counter = Counter(recipients)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            letter = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            counter.add([own["to"][0]["email"] for own in letter["personalizations"]])
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.timeout = 0.1
    pipe.send(server.server_port)
    while not pipe.poll():
        server.handle_request()
    pipe.send(counter.counted())


def serve_smtp(recipients: int, pipe: Connection) -> None:
    """Run a mail server that accepts everything. Sends its port through the pipe and, when asked, its counts."""
    counter = Counter(recipients)

    class Handler:
        async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            counter.add(envelope.rcpt_tos)
            return "250 OK"

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.recv)

    asyncio.run(serve())
    pipe.send(counter.counted())


@contextmanager
def mail_server(
    serve: Callable[[int, Connection], None], recipients: int
) -> Iterator[tuple[int, Callable[[], dict[str, int]]]]:
    """Run a mail server in its own process. Yields its port and a function that ends it and returns its counts."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(recipients, theirs), daemon=True)
    process.start()

    def counted() -> dict[str, int]:
        ours.send("enough")
        counts: dict[str, int] = ours.recv()
        return counts

    try:
        yield ours.recv(), counted
    finally:
        process.kill()
        process.join()


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


def memory(process: psutil.Process) -> float:
    """Return the MB that the process and its children hold. Shared pages count once for each process."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6


@dataclass
class Measured:
    """The result of one way of sending."""

    seconds: float
    begin_mb: float
    most_mb: float
    counted: dict[str, int]


def prepare(recipients: int) -> int:
    """Create subscribers s1, s2 … and a published post, and start its mailing. Returns the id of the post."""
    from django.contrib.auth import get_user_model
    from django.db import connection, transaction

    from app.blog import services
    from app.blog.models import Post, Subscriber
    from app.blog.tasks import notify_subscribers

    Post.objects.all().delete()
    Subscriber.objects.all()._raw_delete("default")
    author = get_user_model().objects.get_or_create(username="author", email="author@example.com")[0]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO blog_subscriber (email, active, token, created_at)"
            " SELECT 's' || n || '@example.com', true, md5(n::text), now() FROM generate_series(1, %s) n",
            [recipients],
        )
        cursor.execute("ANALYZE blog_subscriber")
    post = services.post_create(author=author, title="News of the day", body="A table does not forget. " * 40)
    with transaction.atomic():
        services.post_publish(post_id=post.pk)
        notify_subscribers.delay(post.pk)
    return post.pk


def watch(worker: psutil.Process, recipients: int) -> tuple[float, float, float]:
    """Wait until all are mailed. Returns the seconds since the call, and the worker's first and highest MB."""
    from pressroom.models import LIVE, Status, TaskRun

    begin = most = 0.0
    done, at = 0, time.monotonic()
    while True:
        run = TaskRun.objects.latest("created_at")
        if (run.progress_current or 0) > done:
            done, at = run.progress_current or 0, time.monotonic()
        if done:
            most = max(most, memory(worker))
            begin = begin or most
        if sys.stdout.isatty():
            print(f"\r  {done:,} of {recipients:,} mailed, {most:.0f} MB\033[K", end="", flush=True)
        if run.status not in LIVE:
            break
        if time.monotonic() - at > STUCK:
            raise SystemExit(f"no progress for {STUCK:.0f} s: {run} {run.error}")
        time.sleep(0.25)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if run.status != Status.SUCCEEDED or run.finished_at is None:
        raise SystemExit(f"{run} {run.error}\n{run.traceback}")
    return (run.finished_at - run.created_at).total_seconds(), begin, most


def measure(serve: Callable[[int, Connection], None], url: str, recipients: int, folder: Path) -> Measured:
    """Mail the post to this many subscribers. ``url`` is the mail server's, with a placeholder for its port."""
    command = ["-m", "celery", "-A", "app", "worker", "-l", "info", "-Q", "emails", "-P", "prefork", "-c", "1"]
    with mail_server(serve, recipients) as (port, counted):
        env = {"EMAIL_URL": url.format(port), "DEFAULT_FROM_EMAIL": "Press <press@press.example>"}
        with (
            running("relay", ["manage.py", "relay"], folder, "relay: ready"),
            running("worker", command, folder, "ready.", **env) as worker,
        ):
            prepare(recipients)
            seconds, begin, most = watch(worker, recipients)
        return Measured(seconds, begin, most, counted())


def report(title: str, recipients: int, measured: Measured) -> bool:
    """Print the result. Returns whether everybody was mailed exactly once."""
    counted, grown = measured.counted, measured.most_mb - measured.begin_mb
    print(title)
    print(f"  {recipients:,} recipients in {measured.seconds:,.1f} s: {recipients / measured.seconds:,.0f} a second")
    print(f"  {counted['mails']:,} mails by {counted['calls']:,} calls; missed {recipients - counted['different']:,}, "
          f"mailed twice {counted['twice']:,}")  # fmt: skip
    flat = "yes" if grown <= FLAT else "no"
    print(f"  memory of the worker and its process: {measured.begin_mb:.1f} MB after the first batch, "
          f"{measured.most_mb:.1f} MB at most; flat within {FLAT} MB: {flat}", flush=True)  # fmt: skip
    return counted["different"] == recipients and not counted["twice"]


def main(recipients: int) -> int:
    few = max(1, recipients // ONE_BY_ONE)
    with stack() as folder:
        measured = measure(serve_like_sendgrid, "sendgrid+http://:key@127.0.0.1:{}", recipients, folder)
        whole = report("In batches of 1,000, by an HTTP API like SendGrid's", recipients, measured)
        measured = measure(serve_smtp, "smtp://127.0.0.1:{}", few, folder)
        whole &= report(f"One by one, by SMTP, every {ONE_BY_ONE}th of them", few, measured)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(int(re.sub(r"[_,]", "", sys.argv[1]))))
