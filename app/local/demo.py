"""``make demo``: what a reader and an author do, over HTTP only, and when what they started was done."""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

TIMEOUT = 300.0
"""Seconds until the tasks count as stuck: a hang guard, a laptop needs a few."""
POLL = 0.25
"""Seconds between two looks at the tasks."""
FINAL = {"succeeded", "failed", "cancelled", "expired"}


class DemoError(Exception):
    """It did not work; the text says what."""


@dataclass
class Started:
    """A request, how long it took, and the tasks that rode on it."""

    title: str
    request_ms: float
    tasks: list[dict[str, Any]]


class Api:
    """The API as one user sees it."""

    def __init__(self, base_url: str) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=30.0, follow_redirects=True)

    def call(self, method: str, url: str, status: int, body: dict[str, Any] | None = None) -> tuple[Any, float]:
        """The answer's body, and the milliseconds it took. Raises DemoError for any other status."""
        started = time.perf_counter()
        try:
            response = self._client.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise DemoError(f"{method} {self._client.base_url.join(url)}: {error}; is `make up` running?") from error
        taken = (time.perf_counter() - started) * 1000
        if response.status_code != status:
            raise DemoError(f"{method} {url}: {response.status_code} instead of {status}: {response.text[:500]}")
        return response.json(), taken

    def sign_in(self, username: str, password: str) -> None:
        tokens, _ = self.call("POST", "/api/auth/login/", 200, {"username": username, "password": password})
        self._client.headers["Authorization"] = f"Bearer {tokens['access']}"


def register(base_url: str) -> tuple[Api, Started]:
    """A new reader, signed in, with the welcome mail on its way."""
    api = Api(base_url)
    name, password = f"reader-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    body = {"username": name, "email": f"{name}@example.com", "password": password}
    answer, taken = api.call("POST", "/api/auth/register/", 201, body)
    api.sign_in(name, password)
    return api, Started("register a reader", taken, [answer["welcome_task"]])


def publish(base_url: str) -> tuple[Api, Started]:
    """A new post of the demo author's, published."""
    api = Api(base_url)
    api.sign_in("author", "author-demo-1")
    body = {"title": f"News of {datetime.now(UTC):%d %B %Y, %H:%M:%S}", "body": "A thousand mails, and none twice."}
    post, _ = api.call("POST", "/api/posts/", 201, body)
    answer, taken = api.call("POST", f"/api/posts/{post['id']}/publish/", 200)
    return api, Started("publish a post", taken, answer["tasks"])


def follow(started: list[tuple[Api, Started]]) -> None:
    """Look at the tasks until all are done. Raises DemoError when one failed, or after the time-out."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        for api, what in started:
            what.tasks = [
                task if task["status"] in FINAL else api.call("GET", f"/api/tasks/{task['id']}/", 200)[0]
                for task in what.tasks
            ]
        tasks = [task for _, what in started for task in what.tasks]
        show_progress(tasks)
        if all(task["status"] in FINAL for task in tasks):
            break
        if time.monotonic() > deadline:
            left = ", ".join(task["name"] for task in tasks if task["status"] not in FINAL)
            raise DemoError(f"not done within {TIMEOUT:.0f} s: {left}")
        time.sleep(POLL)
    failed = [f"{task['name']}: {task['status']}, {task['error']}" for task in tasks if task["status"] != "succeeded"]
    if failed:
        raise DemoError("; ".join(failed))


def show_progress(tasks: list[dict[str, Any]]) -> None:
    """One line, written over and over on a terminal."""
    if not sys.stdout.isatty():
        return
    done = sum(fraction(task) for task in tasks) / len(tasks)
    finished = sum(task["status"] in FINAL for task in tasks)
    said = " ".join(f"{p['current']}/{p['total']}" for task in tasks if (p := task["progress"])["total"])
    bar = "█" * round(done * 40)
    end = "\n" if finished == len(tasks) else ""
    print(f"\r{bar.ljust(40, '░')} {finished} of {len(tasks)} tasks done  {said}\033[K", end=end, flush=True)


def fraction(task: dict[str, Any]) -> float:
    """How much of the task is done, from 0 to 1."""
    if task["status"] in FINAL:
        return 1.0
    progress = task["progress"]
    return progress["current"] / progress["total"] if progress["total"] else 0.0


def milliseconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000


def mails(task: dict[str, Any]) -> int:
    """How many mails the task has sent."""
    if task["name"].endswith(".send_welcome_email"):
        return 1
    return int(task["result"]) if task["name"].endswith(".notify_subscribers") else 0


def timeline(started: list[Started]) -> str:
    """What happened when. The times of a task are the database's, from the commit of its request on."""
    lines = ["", f"{'':36}{'request':>9}{'start':>9}{'done':>9}{'mails':>7}", f"{'':36}" + f"{'ms':>9}" * 3]
    for what in started:
        lines.append(f"{what.title:36}{what.request_ms:9.0f}")
        for task in what.tasks:
            start = milliseconds(task["created_at"], task["started_at"])
            done = milliseconds(task["created_at"], task["finished_at"])
            lines.append(f"  {task['name'].rpartition('.')[2]:34}{'':9}{start:9.0f}{done:9.0f}{mails(task) or '':>7}")
    total = sum(mails(task) for what in started for task in what.tasks)
    return "\n".join([*lines, "", f"{total:,} mails sent; the requests did not wait for one of them."])


def main(base_url: str) -> int:
    try:
        started = [register(base_url), publish(base_url)]
        follow(started)
    except DemoError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    print(timeline([what for _, what in started]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
