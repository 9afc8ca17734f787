"""Readers and authors, run in a pod: requests at a rate until a file is there, and what became of each.

Prints a line of JSON: requests, failed (with examples), latencies in seconds, and the ids of the tasks that were
acknowledged. Nothing but the image's own packages is needed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

THREADS = 32


class Load:
    """``rate`` requests a second, ``most`` in all: a third each reads, writes a post, publishes one.

    After a hundred it makes the file ``flag``.running; it ends when ``flag`` is there.
    """

    def __init__(self, url: str, token: str, rate: float, most: int, flag: Path) -> None:
        self.url, self.rate, self.count, self.flag = url, rate, most, flag
        self.headers = {"Authorization": f"Bearer {token}"}
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self.next = 0
        self.drafts: list[int] = []
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.failures: list[str] = []
        self.tasks: list[str] = []

    def run(self) -> dict[str, Any]:
        threads = [threading.Thread(target=self.work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - self.started
        self.latencies.sort()
        at = lambda share: round(self.latencies[int(share * (len(self.latencies) - 1))], 3)  # noqa: E731
        return {
            "requests": len(self.latencies), "seconds": round(taken, 1), "statuses": self.statuses,
            "failures": self.failures[:5], "failed": len(self.failures), "p50": at(0.5), "p99": at(0.99),
            "longest": at(1.0), "tasks": self.tasks,
        }  # fmt: skip

    def work(self) -> None:
        # A connection a request, as from many readers: a pod that ends is not kept on by one that is open.
        with httpx.Client(
            base_url=self.url, headers=self.headers, timeout=60.0, limits=httpx.Limits(max_keepalive_connections=0)
        ) as client:
            while True:
                with self.lock:
                    number = self.next
                    self.next += 1
                if number >= self.count or self.flag.exists():
                    return
                if number == 100:
                    self.flag.with_suffix(".running").touch()
                time.sleep(max(0.0, self.started + number / self.rate - time.monotonic()))
                self.one(client, number)

    def one(self, client: httpx.Client, number: int) -> None:
        kind = number % 3
        post = None
        if kind == 2:
            with self.lock:
                post = self.drafts.pop() if self.drafts else None
        begun = time.monotonic()
        try:
            if kind == 1:
                answer = client.post("/api/posts/", json={"title": f"Post {number}", "body": "A queue forgets."})
            elif post is not None:
                answer = client.post(f"/api/posts/{post}/publish/")
            else:
                answer = client.get("/api/posts/")
            status = str(answer.status_code)
        except httpx.HTTPError as error:
            answer, status = None, type(error).__name__
        with self.lock:
            self.latencies.append(time.monotonic() - begun)
            self.statuses[status] += 1
            if answer is None or not answer.is_success:
                told = answer.text[:200] if answer is not None else ""
                self.failures.append(f"{time.monotonic() - self.started:.1f} s: {status} {told}")
            elif kind == 1:
                self.drafts.append(answer.json()["id"])
            elif post is not None:
                self.tasks += [task["id"] for task in answer.json()["tasks"]]


if __name__ == "__main__":
    url, token, rate, most, flag = sys.argv[1:]
    print(json.dumps(Load(url, token, float(rate), int(most), Path(flag)).run()))
