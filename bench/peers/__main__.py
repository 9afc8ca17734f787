"""``make bench``: task queues side by side, on one Valkey and one Postgres, two worker processes each.

Each queue has a database of its own in the same Postgres, and the same Valkey to itself, emptied before; it is
measured by a process of its own (bench.measure says how), and one that fails is told of in its row. The task does
nothing but append its number and the time to a file, outside of every framework; its payload is 1 KB.

- ``drained/s``: effects per second from the first to the last, the workers having been started when all tasks were
  waiting; ``with the start`` counts from the start of the workers' commands.
- ``idle`` and ``half load``: from the moment after COMMIT to the first line of the task, at 20 calls a second and at
  half of ``drained/s``. Queues that know nothing of transactions are called by ``transaction.on_commit``.
- CPU: from the first effect to the last. Memory: PSS, of the workers and their children.
- ``not done``: tasks without an effect when nothing had happened for ``--settle`` seconds after the last SIGKILL.
  Some queues hold on to them and would do them later, or when somebody asks: what is late by so much counts here.

Exit code 1 when a queue could not be measured, or Pressroom left a task undone; speed is told, not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg

from app.local.services import PROJECT, Postgres, Valkey, free_port
from bench import page
from bench.figures import Figures, ratios
from bench.peers import NAMES
from bench.stack import services
from bench.trees import kill

LONGEST = 3600.0
"""Seconds that one queue is measured, at most."""


def environment(folder: Path, name: str, database_url: str, valkey: Valkey) -> dict[str, str]:
    """For the process that measures, and those it starts."""
    kept = {key: value for key, value in os.environ.items() if key not in ("DJANGO_SETTINGS_MODULE", "LOG_FORMAT")}
    effects = folder / f"{name}.effects"
    effects.touch()
    return kept | {
        "DATABASE_URL": database_url, "REDIS_URL": valkey.url, "BENCH_EFFECTS": str(effects),
        "LOCAL": "1", "LOG_FORMAT": "json", "VAR_DIR": str(folder), "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip


def measure(name: str, folder: Path, postgres: Postgres, valkey: Valkey, options: argparse.Namespace) -> Figures:
    """In a process of its own; an error is told in the figures."""
    assert postgres.pid is not None
    assert valkey.pid is not None
    valkey.client(socket_timeout=30.0).flushall()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE bench_{name}")
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    url = f"{postgres.url.rpartition('/')[0]}/bench_{name}"
    command = [
        sys.executable, "-m", "bench.measure", name, str(file), f"--tasks={options.tasks}", f"--kills={options.kills}",
        f"--seconds={options.seconds}", f"--settle={options.settle}", f"--postgres={postgres.pid}",
        f"--redis={valkey.pid}",
    ]  # fmt: skip
    with log.open("w") as output:
        popen = subprocess.Popen(
            command, cwd=PROJECT, env=environment(folder, name, url, valkey), stdout=output, stderr=output
        )
    error = ""
    try:
        if popen.wait(LONGEST):
            error = (log.read_text(errors="replace").splitlines() or [f"exit code {popen.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        error = f"not done within {LONGEST:.0f} s"
    finally:
        if popen.poll() is None:
            kill(psutil.Process(popen.pid))
            popen.wait()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE bench_{name} WITH (FORCE)")
    figures = Figures(title=name)
    with suppress(FileNotFoundError, ValueError):  # it failed before it wrote any
        figures = Figures(**json.loads(file.read_text()))
    figures.error = error
    return figures


def context(options: argparse.Namespace, measured: list[Figures], services_versions: dict[str, str]) -> list[str]:
    load, _, _ = psutil.getloadavg()
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {options.tasks:,} tasks of 1 KB, {options.kills} kills, "
        f"{page.machine()}, load of {options.load:.1f} before and {load:.1f} after.",
        f"{page.versions(measured, services_versions)}.",
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers")
    parser.add_argument("--tasks", type=lambda text: int(re.sub(r"[_,]", "", text)), default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0, help="of calls at each rate")
    parser.add_argument("--settle", type=float, default=90.0, help="seconds without effect after which it is over")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(NAMES), help=",".join(NAMES))
    parser.add_argument("--page", type=Path, default=PROJECT / "docs" / "performance.md")
    options = parser.parse_args()
    if unknown := set(options.only) - set(NAMES):
        parser.error(f"{', '.join(unknown)}: not of {', '.join(NAMES)}")
    options.load = psutil.getloadavg()[0]
    return options


def main() -> int:
    options = arguments()
    measured: dict[str, Figures] = {}
    with services() as (folder, postgres, valkey):
        for name in options.only:
            measured[name] = figures = measure(name, folder, postgres, valkey, options)
            print(page.table(page.SPEED, [page.speed_row(figures)]))
            print(page.table(page.COST, [page.cost_row(figures)]), figures.error, "", sep="\n", flush=True)
        with psycopg.connect(postgres.url) as connection:
            server = str(connection.execute("SHOW server_version").fetchone()[0])
        versions = {"PostgreSQL": server, "Valkey": str(valkey.client().info("server")["valkey_version"])}
    asked, rows = ratios(measured), list(measured.values())
    page.write(options.page, page.block(rows, asked, context(options, rows, versions), []))
    page.picture(rows, options.page.parent / "images" / "performance.svg")
    print(*asked, sep="\n")
    ours = measured.get("pressroom")
    return 1 if any(one.error for one in rows) or (ours is not None and ours.not_done) else 0


if __name__ == "__main__":
    sys.exit(main())
