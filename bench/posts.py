"""The cost of a durable task for a request: ``python -m bench.posts <file for the results> <requests>``.

Two gunicorns run as deployed: one with the site as it is, one where a new post starts a task in its transaction. 1, 10
and 50 clients send requests to them in turn, on persistent connections. The relay runs, but no worker does, because
its work is not part of the request.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.local.servers import free_port
from app.local.up import web
from bench.figures import Posts, percentile
from bench.peers import PYTHON
from bench.peers.ours import counting
from bench.trees import Commands

CLIENTS = (1, 10, 50)
ROUNDS = 5
"""Number of turns of each site, so that temporary changes of the machine's speed affect both."""
TIMEOUT = 30.0
"""Seconds to wait for an answer."""


def post(port: int, token: str, count: int) -> list[float]:
    """Send one client's requests, one after another. Returns milliseconds. Raises RuntimeError for any other status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    taken = []
    for _ in range(count):
        body = json.dumps({"title": f"{secrets.token_hex(8)} today", "body": "A table does not forget. " * 20})
        began = time.perf_counter()
        connection.request("POST", "/api/posts/", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        taken.append((time.perf_counter() - began) * 1000)
        if answer.status != 201:
            raise RuntimeError(f"POST /api/posts/: {answer.status} {text[:300]!r}")
    connection.close()
    return taken


def ask(port: int, token: str, clients: int, requests: int) -> list[float]:
    """Run all clients at the same time. Returns the milliseconds of all requests."""
    with ThreadPoolExecutor(clients) as pool:
        asked = [pool.submit(post, port, token, max(1, requests // clients)) for _ in range(clients)]
        return [one for future in asked for one in future.result()]


def compare(plain: int, with_task: int, token: str, requests: int) -> Iterator[Posts]:
    """Measure both sites. ``plain`` and ``with_task`` are their ports."""
    for clients in CLIENTS:
        taken: dict[int, list[float]] = {plain: [], with_task: []}
        for port in taken:
            ask(port, token, clients, clients)  # opens the sites' database connections
        for turn in range(ROUNDS):
            for port in (plain, with_task) if turn % 2 else (with_task, plain):
                taken[port] += ask(port, token, clients, max(clients, requests // ROUNDS))
        yield Posts(clients, *(percentile(taken[port], share) for port in taken for share in (0.5, 0.99)))


def access_token() -> str:
    """Create an author and return an access token."""
    from django.contrib.auth import get_user_model

    from app.accounts.sign_in.tokens import RefreshToken

    author = get_user_model().objects.create(username="author", email="author@example.com")
    return str(RefreshToken.for_user(author).access_token)


def main(file: Path, requests: int) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    log = file.with_suffix("")
    ports = {"app.wsgi": free_port(), "bench.site": free_port()}
    sites = [
        [*counting(), *(site if part == "app.wsgi" else part for part in web(port))] for site, port in ports.items()
    ]
    relay = [*counting(), PYTHON, "manage.py", "relay"]
    with (
        Commands([relay], Path(f"{log}.relay.log")) as beside,
        Commands(sites[:1], Path(f"{log}.plain.log")) as plain,
        Commands(sites[1:], Path(f"{log}.task.log")) as with_task,
    ):
        beside.wait_for("relay: ready")
        for commands in (plain, with_task):
            commands.wait_for("Booting worker")
        figures = list(compare(*ports.values(), access_token(), requests))
    file.write_text(json.dumps([dataclasses.asdict(one) for one in figures]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
