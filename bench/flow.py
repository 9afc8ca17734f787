"""``make bench-flow``: what flow control costs those who do not use it, and how limits scale with slots.

- A call and a drain without limits, beside the code before flow control (`BEFORE`, whose files come from git). Each
  version has a process of its own and a database of its own in one PostgreSQL; they work in turns, and change who is
  first. The cost of a task is the CPU of its process and of its session. Each start of the processes gives a ratio, the
  median of those of its rounds: where a process happens to lie in memory makes a difference of several percent, for as
  long as it lives. The median of the starts counts, and the least and the most are printed beside it.
- Throughput with `KEYS` keys, of which each waits for a limit: with a relay, and one worker with 1, 2 and 4 slots.

The exit code is 1 if a cost grew by more than `MOST`, or more slots did not do more.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import psycopg

from app.local.servers import PROJECT, Postgres, Valkey
from bench.peers import PYTHON, Effects
from bench.stack import services
from bench.trees import kill

BEFORE = "7a2180cf088d"
"""The commit before flow control."""
MOST = 2.0
"""Percent by which a cost may grow."""
KEYS, EACH = 10_000, 2
"""Keys with a limit, and the runs that wait for each."""
SLOTS = (1, 2, 4)
SETTLE, MEASURED = 3.0, 15.0
"""Seconds of work before throughput is measured, and for which it is."""


def environment(folder: Path, url: str, valkey: Valkey, code: Path) -> dict[str, str]:
    """Return the environment of a process that runs the code in ``code``."""
    return os.environ | {
        "LOCAL": "1", "VAR_DIR": str(folder), "DATABASE_URL": url, "REDIS_URL": valkey.url, "PYTHONPATH": str(code),
        "DJANGO_SETTINGS_MODULE": "app.settings", "PYTHONUNBUFFERED": "1", "BENCH_EFFECTS": str(folder / "effects"),
    }  # fmt: skip


def files_of(commit: str, folder: Path) -> Path:
    """Write the files of a commit into a folder. Raises SystemExit if git does not have it."""
    done = subprocess.run(["git", "archive", commit], cwd=PROJECT, capture_output=True, check=False)  # noqa: S607
    if done.returncode:
        sys.exit(f"git has no commit {commit}, with which this compares: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Version:
    """A process that makes rounds with the code of a checkout."""

    def __init__(self, name: str, code: Path, folder: Path, postgres: Postgres, valkey: Valkey, tasks: int) -> None:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS bench_{name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE bench_{name}")
        url = f"{postgres.url.rpartition('/')[0]}/bench_{name}"
        self._log = folder / f"{name}.log"
        self._popen = subprocess.Popen(
            [PYTHON, str(PROJECT / "bench" / "flow_rounds.py"), str(tasks)], cwd=code,
            env=environment(folder, url, valkey, code), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log.open("w"), text=True,
        )  # fmt: skip
        self._read("ready")

    def round(self) -> dict[str, list[float]]:
        """Make a round. Returns what a task cost in each phase: see `bench.flow_rounds`."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()
        found: dict[str, list[float]] = json.loads(self._read("{"))
        return found

    def _read(self, begin: str) -> str:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            if line.startswith(begin):
                return line
        raise RuntimeError(f"the process ended:\n{self._log.read_text()[-3000:]}")

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()


def compare(folder: Path, postgres: Postgres, valkey: Valkey, options: argparse.Namespace) -> bool:
    """Compare both versions and print it. Returns whether no cost grew by more than `MOST`."""
    found: dict[str, list[Costs]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="pressroom-before-") as checkout:
        codes = {"before": files_of(BEFORE, Path(checkout)), "now": PROJECT}
        for _ in range(options.starts):
            with ExitStack() as stack:
                versions = {}
                for name, code in codes.items():
                    versions[name] = Version(name, code, folder, postgres, valkey, options.tasks)
                    stack.callback(versions[name].end)
                for phase, costs in start(versions, options.rounds).items():
                    found[phase].append(costs)
    are_met = [_told(phase, costs) for phase, costs in found.items()]
    return all(are_met)


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a phase cost in one start: medians of its rounds."""

    cpu: dict[str, float]
    """Microseconds of CPU by version."""
    own: dict[str, float]
    """Those of Python."""
    grew: float
    """By how many percent the CPU grew."""


def start(versions: dict[str, Version], rounds: int) -> dict[str, Costs]:
    """Have both versions make rounds in turns. Returns the costs of each phase."""
    for version in versions.values():
        version.round()  # fills the tables, and the server keeps its plans
    found: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for name in sorted(versions, reverse=bool(number % 2)):
            for phase, costs in versions[name].round().items():
                found[phase][name].append(costs)
    return {phase: _costs(of_versions) for phase, of_versions in found.items()}


def _costs(found: dict[str, list[list[float]]]) -> Costs:
    cpu = {name: [own + server for own, server in costs] for name, costs in found.items()}
    return Costs(
        {name: statistics.median(costs) for name, costs in cpu.items()},
        {name: statistics.median(own for own, _ in costs) for name, costs in found.items()},
        statistics.median((now / before - 1) * 100 for before, now in zip(cpu["before"], cpu["now"], strict=True)),
    )


def _told(phase: str, starts: list[Costs]) -> bool:
    cpu = {name: statistics.median(one.cpu[name] for one in starts) for name in ("before", "now")}
    own = {name: statistics.median(one.own[name] for one in starts) for name in ("before", "now")}
    grew = sorted(one.grew for one in starts)
    is_met = statistics.median(grew) <= MOST
    print(
        f"{phase}: {cpu['before']:.0f} µs of CPU before ({own['before']:.0f} by Python), {cpu['now']:.0f} µs now "
        f"({own['now']:.0f}); at most {MOST:g} % more: {statistics.median(grew):+.1f} % ({grew[0]:+.1f} to "
        f"{grew[-1]:+.1f}), {'yes' if is_met else 'no'}",
        flush=True,
    )
    return is_met


def scale(folder: Path, postgres: Postgres, valkey: Valkey) -> bool:
    """Measure the throughput of a queue in which every run waits for a limit. Returns whether more slots do more."""
    env = environment(folder, postgres.url, valkey, PROJECT)
    subprocess.run([PYTHON, "manage.py", "migrate", "-v", "0"], cwd=PROJECT, env=env, check=True)
    os.environ |= env
    calls = (
        "import django; django.setup()\n"
        "from django.db import transaction\n"
        "from bench.flow_task import keyed\n"
        f"for number in range(0, {KEYS * EACH}, 1000):\n"
        "    with transaction.atomic():\n"
        f"        for one in range(number, number + 1000): keyed.delay(one % {KEYS})\n"
    )
    subprocess.run([PYTHON, "-c", calls], cwd=PROJECT, env=env, check=True)
    found = [_throughput(folder, env, slots) for slots in SLOTS]
    grows = all(more > fewer for fewer, more in itertools.pairwise(found))
    told = ", ".join(f"{one:,.0f}/s with {slots}" for slots, one in zip(SLOTS, found, strict=True))
    print(f"{KEYS:,} keys with limits, bodies of 20 ms, slots: {told}; more slots do more: {'yes' if grows else 'no'}")
    return grows


def _throughput(folder: Path, env: dict[str, str], slots: int) -> float:
    """Return how many bodies end in a second."""
    worker = [
        PYTHON, "-m", "celery", "-A", "app", "worker", "-Q", "default", "-c", str(slots), "--include=bench.flow_task",
        "-n", f"slots{slots}@%h", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    begun = Effects()
    with (folder / f"{slots}.log").open("w") as log, ExitStack() as stack:
        for command in ([PYTHON, "manage.py", "relay"], worker):
            popen = subprocess.Popen(command, cwd=PROJECT, env=env, stdout=log, stderr=log)
            stack.callback(_end, popen)
        deadline = time.monotonic() + 120
        while len(begun) < 20:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing is done:\n{(folder / f'{slots}.log').read_text()[-3000:]}")
            time.sleep(0.05)
        time.sleep(SETTLE)
        effects, since = Effects(), time.monotonic()
        time.sleep(MEASURED)
        return len(effects) / (time.monotonic() - since)


def _end(popen: subprocess.Popen[Any]) -> None:
    """SIGTERM, which gives back what waits, and SIGKILL to what is left after a while."""
    popen.terminate()
    try:
        popen.wait(60)
    except subprocess.TimeoutExpired:
        kill(psutil.Process(popen.pid))
        popen.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.flow")
    parser.add_argument("--tasks", type=int, default=300, help="calls of a phase")
    parser.add_argument("--rounds", type=int, default=12, help="rounds of each start")
    parser.add_argument("--starts", type=int, default=9)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the children, like Ctrl-C
    with services() as (folder, postgres, valkey):
        is_cheap = compare(folder, postgres, valkey, options)
        grows = scale(folder, postgres, valkey)
    return 0 if is_cheap and grows else 1


if __name__ == "__main__":
    sys.exit(main())
