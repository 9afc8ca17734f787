"""The cost of a task for a request: ``python -m bench.posts <file for the results> <requests>``.

Four gunicorns run as deployed. One has the site as it is. In the others a new post calls a task in its transaction: a
durable one of Pressroom, one by stock Celery's ``delay_on_commit``, and a job that Oban inserts on Django's connection.
1 and 10 clients send requests to them in turn, on persistent connections. The relay runs, but no worker does, because
its work is not part of the request. At the end, each queue must hold a call for each request.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from app.local.servers import free_port
from app.local.up import web
from bench.figures import SITES, Posts, percentile
from bench.peers import PYTHON
from bench.peers.ours import counting
from bench.trees import Commands

CLIENTS = (1, 10)
ROUNDS = 6
"""Number of turns of each site, so that temporary changes of the machine's speed affect all."""
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


def compare(ports: dict[str, int], token: str, requests: int) -> Iterator[Posts]:
    """Measure the sites, which listen on these ports. Each round begins with another one."""
    sites = list(ports)
    for clients in CLIENTS:
        taken: dict[str, list[float]] = {site: [] for site in sites}
        for site in sites:
            ask(ports[site], token, clients, clients)  # opens the sites' database connections
        for turn in range(ROUNDS):
            first = turn % len(sites)
            for site in (*sites[first:], *sites[:first]):
                taken[site] += ask(ports[site], token, clients, max(clients, requests // ROUNDS))
        for site in sites:
            yield Posts(site, clients, percentile(taken[site], 0.5), percentile(taken[site], 0.99))


def made(requests: int) -> int:
    """Return how many requests `compare` makes of each site."""
    return sum(clients + ROUNDS * clients * max(1, max(clients, requests // ROUNDS) // clients) for clients in CLIENTS)


def held() -> dict[str, int]:
    """Return the number of calls that each queue holds. No worker has taken any."""
    import redis
    from django.db import connection

    from pressroom.models import TaskRun

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM oban_jobs")
        [of_oban] = cursor.fetchone()
    of_celery = redis.Redis.from_url(f"{os.environ['REDIS_URL']}/0").llen("celery")
    return {"pressroom": TaskRun.objects.filter(name="bench.noop").count(), "celery": of_celery, "oban": of_oban}


def access_token() -> str:
    """Create an author and return an access token."""
    from django.contrib.auth import get_user_model

    from app.accounts.services import user_make_author
    from app.accounts.sign_in.tokens import RefreshToken

    author = get_user_model().objects.create(username="author", email="author@example.com")
    user_make_author(author)
    return str(RefreshToken.for_user(author).access_token)


def serving(site: str, port: int) -> list[str]:
    """Return the command of a site's gunicorn."""
    return ["bench.site" if part == "app.wsgi" and site != "plain" else part for part in web(port)]


def main(file: Path, requests: int) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from bench.peers.oban import PEER as OBAN

    assert OBAN.prepare is not None
    OBAN.prepare()
    log = file.with_suffix("")
    ports = {site: free_port() for site in SITES}
    commands = {site: [*counting(), f"BENCH_SITE={site}", *serving(site, port)] for site, port in ports.items()}
    relay = [*counting(), PYTHON, "manage.py", "relay"]
    with ExitStack() as stack:
        beside = stack.enter_context(Commands([relay], Path(f"{log}.relay.log")))
        sites = [
            stack.enter_context(Commands([command], Path(f"{log}.{site}.log"))) for site, command in commands.items()
        ]
        beside.wait_for("relay: ready")
        for site in sites:
            site.wait_for("Booting worker")
        figures = list(compare(ports, access_token(), requests))
    wanted, found = made(requests), held()
    if any(count != wanted for count in found.values()):
        raise RuntimeError(f"each queue should hold {wanted} calls; they hold {found}")
    file.write_text(json.dumps([dataclasses.asdict(one) for one in figures]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
