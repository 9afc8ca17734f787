"""``make bench``: compares task queues on one Valkey and one Postgres, with two worker processes each.

Each queue has its own database in the same Postgres, and the same Valkey, emptied, to itself. A process of its own
measures it (see bench.measure); if that fails, its row shows the error. The task only appends its number to a file,
with the time, outside of every framework. Its payload is 1 KB.

- ``drained/s``: effects per second from the first to the last, with all tasks waiting when the workers start. ``with
  the start`` counts from the start of the workers' commands.
- ``idle`` and ``half load``: from the moment after COMMIT to the first line of the task, at 20 calls a second and at
  half of ``drained/s``. Queues without support for transactions are called by ``transaction.on_commit``.
- The same at rising rates, which are the same for all of ``--curve``, up to the first that the queue does not keep up
  with.
- CPU: from the first effect to the last. ``others'``: the share of all processors that other processes took meanwhile.
  Memory: PSS of the workers and their children.
- ``not done``: tasks without an effect when nothing has happened for ``--settle`` seconds after the last SIGKILL. Some
  queues keep these tasks and run them later, or on request; tasks that are this late count here.

The queues that the requirements compare are measured ``--turns`` times in turn, without load and kills after the first;
their figures are the medians.

The exit code is 1 if a queue or the requests could not be measured, or Pressroom left a task undone. Speed is printed,
not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg

from app.local.servers import PROJECT, Postgres, Valkey
from bench import curve, page
from bench.drawing import table
from bench.figures import COMPARED, Figures, Posts, asked, medians
from bench.measure import rates
from bench.peers import SETUPS
from bench.stack import services
from bench.trees import kill

POSTS = "posts"
"""The measurement of requests, by bench.posts."""
OTHERS = re.compile(r"^(CELERY|TASKRUNS|DRAMATIQ|HUEY|RQ|PROCRASTINATE|OBAN|PGQUEUER|CHANCY|ABSURD|PG)_|^PG|_URL$")
"""Variables of the shell that would change the results."""
DJANGO6 = PROJECT / ".tools" / "bench-django6" / "bin" / "python"
"""The interpreter of the environment with Django 6, which the Makefile makes."""
CURVE = ("celery_acks_late", "oban", "pressroom", "pressroom_bundles")
RATES = (50, 100, 200, 300, 400, 500, 600, 800, 1000, 1200, 1500, 2000)
"""Calls a second."""
LONGEST = 3600.0
"""Maximum number of seconds for one queue."""


def environment(folder: Path, name: str, settings: str, database_url: str, valkey: Valkey) -> dict[str, str]:
    """Return the environment of the process that measures and of its children."""
    effects = folder / f"{name}.effects"
    effects.touch()
    kept = {key: value for key, value in os.environ.items() if not OTHERS.search(key)}
    return kept | {
        "DJANGO_SETTINGS_MODULE": settings, "DATABASE_URL": database_url, "REDIS_URL": valkey.url,
        "BENCH_EFFECTS": str(effects), "SECRET_KEY": secrets.token_urlsafe(50), "LOCAL": "1", "LOG_FORMAT": "json",
        "VAR_DIR": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip


def apart(command: Sequence[str], env: dict[str, str], log: Path, python: str = sys.executable) -> str:
    """Run a command in its own process and leave no children behind. Returns what went wrong, or ""."""
    with log.open("w") as output:
        popen = subprocess.Popen([python, "-m", *command], cwd=PROJECT, env=env, stdout=output, stderr=output)
    try:
        code = popen.wait(LONGEST)
    except subprocess.TimeoutExpired:
        return f"not done within {LONGEST:.0f} s"
    finally:
        if popen.poll() is None:
            kill(psutil.Process(popen.pid))
            popen.wait()
    if not code:
        return ""
    said = log.read_text(errors="replace")
    print(said, file=sys.stderr)
    return page.raised(said) or f"exit code {code}"


@contextmanager
def database(name: str, postgres: Postgres, valkey: Valkey) -> Iterator[str]:
    """Yield the URL of a new database, with an empty Valkey."""
    valkey.client(socket_timeout=30.0).flushall()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE bench_{name}")
        yield f"{postgres.url.rpartition('/')[0]}/bench_{name}"
        connection.execute(f"DROP DATABASE bench_{name} WITH (FORCE)")


def measure(
    name: str, folder: Path, postgres: Postgres, valkey: Valkey, options: argparse.Namespace, turn: int
) -> Figures:
    """Measure one queue. The results contain the error, if any, besides what was measured before it."""
    setup = SETUPS[name]
    if setup.django6 and not DJANGO6.exists():
        return Figures(title=name, error=f"{DJANGO6.relative_to(PROJECT)} is missing; `make bench` makes it")
    file = folder / f"{name}.{turn}.json"
    command = [
        "bench.measure", name, str(file), f"--tasks={options.tasks}", f"--kills={options.kills}",
        f"--seconds={options.seconds}", f"--settle={options.settle}", f"--postgres={postgres.pid}",
        f"--redis={valkey.pid}", *(["--short"] if turn else []),
        f"--rates={','.join(map(str, options.rates)) if name in options.curve else ''}",
    ]  # fmt: skip
    with database(name, postgres, valkey) as url:
        valkey.client().config_set("appendfsync", setup.appendfsync)
        env = environment(folder, name, setup.settings, url, valkey)
        error = apart(command, env, folder / f"{name}.log", str(DJANGO6) if setup.django6 else sys.executable)
    figures = Figures(title=name)
    with suppress(FileNotFoundError, ValueError):  # it failed before it wrote any results
        figures = Figures.loaded(json.loads(file.read_text()))
    figures.error = error
    return figures


def measure_posts(folder: Path, postgres: Postgres, valkey: Valkey, requests: int) -> list[Posts] | None:
    """Measure the requests. Returns [] if the blog is not installed, and None if it went wrong."""
    if not (PROJECT / "app" / "blog").is_dir():
        return []
    file = folder / "posts.json"
    with database("posts", postgres, valkey) as url:
        env = environment(folder, "posts", "app.settings", url, valkey)
        if error := apart(["bench.posts", str(file), str(requests)], env, folder / "posts.log"):
            print(f"POST /api/posts/: {error}")
            return None
    return [Posts(**one) for one in json.loads(file.read_text())]


def context(options: argparse.Namespace, measured: list[Figures], services_versions: dict[str, str]) -> str:
    """Return when, where and with what the results were measured."""
    turned = [one.title for one in measured if one.turns > 1]
    turns = f" Medians of {options.turns} turns: {'; '.join(turned)}." if turned else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {options.commit}, {options.tasks:,} tasks of 1 KB, "
        f"{options.kills} kills, {page.machine()}, "
        f"load of {options.load:.1f} before and {psutil.getloadavg()[0]:.1f} after. "
        f"{page.versions(measured, services_versions)}.{turns}"
    )


def arguments() -> argparse.Namespace:
    known = [*SETUPS, POSTS]
    parser = argparse.ArgumentParser(prog="python -m bench.peers")
    parser.add_argument("--tasks", type=lambda text: int(re.sub(r"[_,]", "", text)), default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of calls at each rate")
    parser.add_argument("--settle", type=float, default=90.0, help="seconds without an effect that end a measurement")
    parser.add_argument("--only", type=lambda text: text.split(","), default=known, help=",".join(known))
    parser.add_argument("--curve", type=lambda text: text.split(","), default=CURVE, help="the queues with all rates")
    parser.add_argument("--rates", type=rates, default=RATES, help="calls a second")
    parser.add_argument("--turns", type=int, default=3, help="times that the compared queues are measured")
    parser.add_argument("--page", type=Path, default=PROJECT / "docs" / "performance.md")
    options = parser.parse_args()
    if options.tasks < 100:
        parser.error("at least 100 tasks are needed for meaningful results")
    if options.turns < 1:
        parser.error("at least one turn is needed")
    if unknown := {*options.only, *options.curve} - {*known, ""}:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    try:
        page.around(options.page)
    except ValueError as error:  # fail now rather than after all measurements
        parser.error(str(error))
    options.commit = page.commit()  # the files may change meanwhile
    options.load = psutil.getloadavg()[0]
    return options


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the children, like Ctrl-C
    names = [name for name in options.only if name in SETUPS]
    turns: dict[str, list[Figures]] = {name: [] for name in names}
    with services() as (folder, postgres, valkey):
        for turn, name in ((turn, name) for turn in range(options.turns) for name in names):
            if turn and (name not in COMPARED or turns[name][0].error):
                continue
            figures = measure(name, folder, postgres, valkey, options, turn)
            turns[name].append(figures)
            print(table(page.SPEED, [page.speed_row(figures)]))
            print(table(page.COST, [page.cost_row(figures)]), figures.error, "", sep="\n", flush=True)
        measured = {name: medians(found) for name, found in turns.items()}
        asked_posts = measure_posts(folder, postgres, valkey, options.tasks // 10) if POSTS in options.only else []
        with psycopg.connect(postgres.url) as connection:
            server = str(connection.execute("SHOW server_version").fetchone()[0])
        versions = {"PostgreSQL": server, "Valkey": str(valkey.client().info("server")["valkey_version"])}
    rows, posts = list(measured.values()), asked_posts or []
    wanted = asked(measured, posts)
    page.write(options.page, page.block(rows, posts, wanted, context(options, rows, versions)))
    images = options.page.parent / "images"
    if rows:
        page.picture(rows, images / "performance.svg")
    if any(one.curve for one in rows):
        print(curve.table(rows), "")
        curve.picture(rows, images / "latency.svg")
    if posts:
        print(table(page.posts_head(posts), page.posts_rows(posts)), "")
    print(*wanted, sep="\n")
    ours = measured.get("pressroom")
    failed = asked_posts is None or any(one.error for one in rows)
    return 1 if failed or (ours is not None and ours.not_done) else 0


if __name__ == "__main__":
    sys.exit(main())
