"""``python load_client.py URL TOKEN SEED RATE MOST``: what is no part of the stack, in a pod of its own.

It calls, and keeps the books: a file each in ``BOOKS`` of the calls made, of those acknowledged, of what became of each
request, and of what tasks tell it by HTTP, a line each. A file ``flood`` with a number makes it call so many tasks on
top; ``poison``, one that kills; ``stop`` ends the calls, which makes ``stopped``. The books stay open.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from calls import WEIGHTS  # type: ignore[import-not-found] # beside it in the pod

BOOKS = Path("/books")
PORT = 8080
THREADS = 32
TIMEOUT = 30.0
"""Seconds a caller waits for an answer."""
FLOOD = 1000
"""Calls in one request of a flood."""
lock = threading.Lock()
files: dict[str, Any] = {}


def write(name: str, line: str) -> None:
    """Append a line to the book of that name."""
    with lock:
        if name not in files:
            files[name] = (BOOKS / name).open("a", buffering=1)
        files[name].write(f"{line}\n")


class Books(BaseHTTPRequestHandler):
    """``POST /<book>`` with a line as body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        line = self.rfile.read(int(self.headers["Content-Length"])).decode()
        write(self.path.strip("/"), line)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: a line a note is enough."""


class Caller:
    """``rate`` requests a second, ``most`` in all: of eight, four call the oracle's tasks, two read, one writes a post,
    one publishes it.
    """

    def __init__(self, url: str, token: str, seed: str, rate: float, most: int) -> None:
        self.url, self.rate, self.most = url, rate, most
        self.headers = {"Authorization": f"Bearer {token}"}
        self.rng = random.Random(f"{seed} calls")
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self.next = self.calls = 0
        self.drafts: list[int] = []

    def run(self) -> None:
        threads = [threading.Thread(target=self.work) for _ in range(THREADS)]
        threads.append(threading.Thread(target=self.on_demand))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (BOOKS / "stopped").touch()

    def work(self) -> None:
        with self.client() as client:
            while not (BOOKS / "stop").exists():
                with self.lock:
                    number = self.next
                    self.next += 1
                if number >= self.most:
                    return
                time.sleep(max(0.0, self.started + number / self.rate - time.monotonic()))
                self.one(client, number)

    def on_demand(self) -> None:
        """What a file asks for; one at a time."""
        with self.client() as client:
            while not (BOOKS / "stop").exists():
                if (BOOKS / "poison").exists():
                    (BOOKS / "poison").unlink()
                    self.send(client, "poison", lambda: client.post("/oracle/", json=["poison"]))
                if (BOOKS / "flood").exists():
                    count = int((BOOKS / "flood").read_text())
                    for _ in range(count // FLOOD):
                        self.call(client, "flood", ["quick"] * FLOOD)
                    (BOOKS / "flood").unlink()
                time.sleep(0.2)

    def client(self) -> httpx.Client:
        # A connection a request, as from many readers: a pod that ends is not kept on by one that is open.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=TIMEOUT, limits=limits)

    def one(self, client: httpx.Client, number: int) -> None:
        place = number % 8
        draft = None
        if place == 7:
            with self.lock:
                draft = self.drafts.pop() if self.drafts else None
        if place < 4:
            with self.lock:
                [kind] = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
            self.call(client, "call", [kind])
        elif place == 6:
            body = {"title": f"Post {number}", "body": "A queue forgets."}
            answer = self.send(client, "write", lambda: client.post("/api/posts/", json=body))
            if answer is not None:
                with self.lock:
                    self.drafts.append(answer["id"])
        elif draft is not None:
            answer = self.send(client, "publish", lambda: client.post(f"/api/posts/{draft}/publish/"))
            for task in answer["tasks"] if answer is not None else ():
                write("published", task["id"])
        else:
            self.send(client, "read", lambda: client.get("/api/posts/"))

    def call(self, client: httpx.Client, title: str, kinds: list[str]) -> None:
        with self.lock:
            calls = [f"{self.calls + place}-{kind}" for place, kind in enumerate(kinds)]
            self.calls += len(calls)
        write("called", "\n".join(calls))
        if self.send(client, title, lambda: client.post("/oracle/", json=calls)) is not None:
            now = time.time()
            write("acknowledged", "\n".join(f"{call} {now}" for call in calls))

    def send(self, client: httpx.Client, kind: str, request: Callable[[], httpx.Response]) -> Any:
        """What was answered; None where it was no success. Either is noted."""
        begun = time.time()
        try:
            answer = request()
            status, told = str(answer.status_code), answer.json() if answer.is_success else None
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            status, told = type(error).__name__, None
        write("requests", f"{begun:.3f} {time.time() - begun:.3f} {kind} {status}")
        return told


def main() -> None:
    url, token, seed, rate, most = sys.argv[1:]
    server = ThreadingHTTPServer(("", PORT), Books)
    threading.Thread(target=server.serve_forever).start()
    # A pod that is there again has its books, and its caller had its turn.
    if not (BOOKS / "called").exists():
        Caller(url, token, seed, float(rate), int(most)).run()


if __name__ == "__main__":
    main()
