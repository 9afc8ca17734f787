"""The command line: one run, or a short run for each guard switched off."""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from app.local.servers import Postgres, Valkey, data_folder
from tests.fault_injection.limits.client import CALLS, KEYS, crowded
from tests.fault_injection.limits.judge import QUEUE, Verdict, judge, spans
from tests.fault_injection.local.stack import Role
from tests.support.notes import noted
from tests.support.processes import Process

WORKERS, SLOTS, RELAYS = 4, 4, 2
MINUTES, SHORT_MINUTES = 5.0, 0.5
BETWEEN = (3.0, 12.0)
"""Seconds between two kills, at least and at most."""
SETTLING = 90.0
"""Seconds without anything noted after which what has not come counts as missing."""
ENVIRONMENT = {"TASKRUNS_HEARTBEAT": "0.5", "TASKRUNS_SILENCE": "5", "TASKRUNS_UNCLAIMED": "3"}
SETTINGS = "tests.fault_injection.limits.settings"
COUNTED = "room := least(room, one.concurrency - taken);"
MUTATIONS = {
    "place-not-freed": (
        "taskruns_admit_3", {"l.lane = f.lane AND NOT l.is_ready": "false"},
    ),
    "count-not-locked": (
        "taskruns_admit_3",
        # The pause after the count lets the other relay count meanwhile. With the lock it changes nothing.
        {"NOT pg_try_advisory_xact_lock(482804169574)": "false", COUNTED: f"{COUNTED} PERFORM pg_sleep(0.05);"},
    ),
    "starts-not-noted": ("taskruns_claim_2", {"WHERE l.rate IS NOT NULL": "WHERE l.rate IS NULL"}),
}  # fmt: skip
"""Guards of a function of the database, and what is put in their places."""


class Run:
    """A run from an empty database to the verdict."""

    def __init__(self, seed: str, seconds: float, without: str | None) -> None:
        self._seed, self._seconds, self._without = seed, seconds, without
        self._rng = random.Random(f"{seed} faults")
        self._folder = Path(tempfile.mkdtemp(prefix="pressroom-limits-"))
        self._data = data_folder(self._folder)
        self._postgres, self._valkey = Postgres(self._data), Valkey(self._data)
        self._workers = [Role(f"worker {number}", _worker(number), "ready.") for number in range(WORKERS)]
        self._relays = [
            Role(f"relay {number}", [sys.executable, "manage.py", "relay"], "relay: ready") for number in range(RELAYS)
        ]
        self._environment: dict[str, str] = {}
        self._killed: dict[int, float] = {}
        self.kills = 0

    def verdict(self) -> Verdict:
        """Start everything, kill workers while calls are made, wait for the rest, and judge."""
        try:
            self._start()
            arguments = [str(self._folder), self._seed, str(self._seconds)]
            client = self._process("client", "-m", "tests.fault_injection.limits.client", *arguments)
            try:
                self._kill_workers(client)
            finally:
                client.end()
            self._settle()
            usual = {str(key) for key in range(KEYS) if not crowded(key)}
            return judge(self._called(), spans(noted(self._folder / "noted"), self._killed), usual)
        finally:
            self._end()

    def _process(self, name: str, *arguments: str) -> Process:
        return Process([sys.executable, *arguments], self._folder / f"{name}.log", **self._environment)

    def _start(self) -> None:
        self._postgres.start()
        self._valkey.start()
        self._environment = {
            **ENVIRONMENT, "DATABASE_URL": self._postgres.url, "REDIS_URL": self._valkey.url, "LOCAL": "1",
            "VAR_DIR": str(self._folder), "LIMITS_FOLDER": str(self._folder), "DJANGO_SETTINGS_MODULE": SETTINGS,
        }  # fmt: skip
        assert self._process("migrate", "manage.py", "migrate", "-v", "0").popen.wait() == 0
        if self._without is not None:
            self._switch_off(*MUTATIONS[self._without])
        for role in (*self._workers, *self._relays):
            role.start(self._folder, self._environment)
        for role in (*self._workers, *self._relays):
            assert role.process is not None
            role.process.wait_for(role.ready_text)

    def _switch_off(self, function: str, guards: dict[str, str]) -> None:
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            [source] = connection.execute("SELECT pg_get_functiondef(%s::regproc)", [function]).fetchone() or [""]
            for guard, instead in guards.items():
                assert source.count(guard) == 1, f"{guard!r} is not once in {function}: what is the guard now?"
                source = source.replace(guard, instead)
            connection.execute(source)

    def _kill_workers(self, client: Process) -> None:
        until = time.monotonic() + self._rng.uniform(*BETWEEN)
        bound = time.monotonic() + 3 * self._seconds + 120
        while client.popen.poll() is None:
            assert time.monotonic() < bound, f"the caller does not come to its end:\n{client.output()}"
            time.sleep(0.02)
            if time.monotonic() >= until:
                ready = [role for role in self._workers if role.ready(1.0)]
                if ready:
                    self._kill(self._rng.choice(ready))
                until = time.monotonic() + self._rng.uniform(*BETWEEN)
            for role in (*self._workers, *self._relays):
                assert role.alive, f"{role.name} ended by itself:\n{role.process and role.process.output()[-3000:]}"
                role.ready(0)  # notes since when
        assert client.popen.returncode == 0, client.output()

    def _kill(self, role: Role) -> None:
        assert role.process is not None
        pids = [role.process.pid, *role.children()]
        role.process.kill()
        self.kills += 1
        # SIGKILL was sent to all of them, and they do nothing more.
        self._killed |= dict.fromkeys(pids, time.monotonic())
        role.start(self._folder, self._environment)

    def _settle(self) -> None:
        """Wait until each call is done, or nothing has been noted for long."""
        count, since = -1, time.monotonic()
        called = set(self._called())
        while time.monotonic() - since < SETTLING:
            lines = noted(self._folder / "noted")
            done = {
                (kind, key, int(number)) for _, word, kind, key, number, _ in map(str.split, lines) if word == "ends"
            }
            if called <= done:
                return
            if len(lines) != count:
                count, since = len(lines), time.monotonic()
            time.sleep(0.2)

    def _called(self) -> dict[tuple[str, str, int], float]:
        return {
            (kind, key, int(number)): float(at)
            for at, kind, key, number in map(str.split, noted(self._folder / "called"))
        }

    def _end(self) -> None:
        for role in (*self._workers, *self._relays):
            role.signal(signal.SIGKILL)
            if role.process is not None:
                role.process.popen.wait()
        self._valkey.stop()
        self._postgres.stop()
        shutil.rmtree(self._data, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _worker(number: int) -> list[str]:
    return [
        sys.executable, "-m", "celery", "-A", "app", "worker", "-l", "info", "-Q", QUEUE, "-c", str(SLOTS),
        "--include=tests.fault_injection.limits.tasks", "-n", f"worker{number}@%h", "--without-gossip",
        "--without-mingle",
    ]  # fmt: skip


def main() -> int:
    """0 if the limits held and each call is done; for the mutations, if each was noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_injection.limits", description=__doc__)
    parser.add_argument("system", choices=["ours", *MUTATIONS, "mutations"], nargs="?", default="ours")
    parser.add_argument("--seed", default="", help="of the calls and the kills; printed, chosen where none is given")
    parser.add_argument("--minutes", type=float, help=f"{MINUTES:g} unless given")
    given = parser.parse_args()
    # As Ctrl-C does: nothing that was started stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    seed = given.seed or secrets.token_hex(4)

    def is_clean(system: str) -> bool:
        minutes = given.minutes or (MINUTES if system == "ours" else SHORT_MINUTES)
        print(f"seed {seed}: {system}, {minutes:g} min, {CALLS} calls/s for {KEYS} keys, {WORKERS} workers of {SLOTS}")
        run = Run(seed, 60 * minutes, None if system == "ours" else system)
        found = run.verdict()
        print(f"{run.kills} workers killed; {found}", flush=True)
        return found.is_clean

    if given.system != "mutations":
        return 0 if is_clean(given.system) else 1
    unseen = [system for system in MUTATIONS if is_clean(system)]
    print(f"not noticed: {', '.join(unseen) or 'none'}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
