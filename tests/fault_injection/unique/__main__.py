"""The command line: one run beside the other libraries, or a short run for each guard switched off."""

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
from tests.fault_injection.local.stack import Role
from tests.fault_injection.unique.client import CALLS, PROCESSES, THREADS
from tests.fault_injection.unique.judge import Verdict, bodies, calls, judge
from tests.support.notes import noted
from tests.support.processes import Process
from tests.support.waiting import until

WORKERS, SLOTS = 2, 4
WAVES, SHORT_WAVES = 10, 4
BETWEEN = (0.0, 3.0)
"""Seconds between two waves, at least and at most. So some meet what the one before left, and some do not."""
SETTLING = 10.0
"""Seconds without anything noted after which what has not come counts as missing."""
PEERS = ["celery-once", "celery-once-on-commit", "celery-singleton", "celery-singleton-on-commit"]
_WAITING_KEY = "CASE WHEN t.unique_key LIKE 'w:%' THEN NULL ELSE t.unique_key END"
MUTATIONS = {
    "index": "DROP INDEX liverun_unique",
    "index-of-seconds": "ALTER TABLE taskruns_uniquecall DROP CONSTRAINT taskruns_uniquecall_pkey",
    "start-keeps-the-key": [
        ("taskruns_claim_2", _WAITING_KEY, "t.unique_key"),
        ("taskruns_finish_and_claim_3", _WAITING_KEY, "t.unique_key"),
    ],
    "seconds-never-end": [("taskruns_insert_unique_1", "FOUND AND ends_at > clock_timestamp() THEN", "FOUND THEN")],
}
"""A statement that takes a guard away, or guards of database functions and what is put in their place."""


class Run:
    """A run from an empty database to the verdict."""

    def __init__(self, system: str, seed: str, waves: int) -> None:
        self._system, self._seed, self._waves = system, seed, waves
        self._is_peer = system in PEERS
        self._rng = random.Random(f"{seed} waves")
        self._folder = Path(tempfile.mkdtemp(prefix="pressroom-unique-"))
        self._data = data_folder(self._folder)
        self._postgres, self._valkey = Postgres(self._data), Valkey(self._data)
        self._roles = [Role(f"worker {number}", self._worker(number), "ready.") for number in range(WORKERS)]
        if not self._is_peer:
            self._roles.append(Role("relay", [sys.executable, "manage.py", "relay"], "relay: ready"))
        self._environment: dict[str, str] = {}

    def verdict(self) -> Verdict:
        """Start everything, release one wave of calls after the other, wait for the rest, and judge."""
        try:
            self._start()
            callers = [self._caller(number) for number in range(PROCESSES)]
            try:
                for caller in callers:
                    caller.wait_for("ready")
                for wave in range(self._waves):
                    self._release(wave, callers)
                for caller in callers:
                    assert caller.popen.wait(60) == 0, caller.output()
            finally:
                for caller in callers:
                    caller.end()
            self._settle()
            return judge(calls(noted(self._folder / "called")), bodies(noted(self._folder / "noted")))
        finally:
            self._end()

    def _process(self, name: str, *arguments: str) -> Process:
        return Process([sys.executable, *arguments], self._folder / f"{name}.log", **self._environment)

    def _caller(self, number: int) -> Process:
        name = self._system if self._is_peer else "ours"
        arguments = [name, str(self._folder), self._seed, str(number), str(self._waves)]
        return self._process(f"caller-{number}", "-m", "tests.fault_injection.unique.client", *arguments)

    def _worker(self, number: int) -> list[str]:
        app = "tests.fault_injection.unique.peers" if self._is_peer else "app"
        include = [] if self._is_peer else ["--include=tests.fault_injection.unique.tasks"]
        return [
            sys.executable, "-m", "celery", "-A", app, "worker", "-l", "info", "-Q", "default", "-c", str(SLOTS),
            *include, "-n", f"worker{number}@%h", "--without-gossip", "--without-mingle",
        ]  # fmt: skip

    def _start(self) -> None:
        self._postgres.start()
        self._valkey.start()
        settings = "tests.fault_injection.unique.peer_settings" if self._is_peer else "app.settings"
        self._environment = {
            "DATABASE_URL": self._postgres.url, "REDIS_URL": self._valkey.url, "LOCAL": "1",
            "VAR_DIR": str(self._folder), "UNIQUE_FOLDER": str(self._folder), "DJANGO_SETTINGS_MODULE": settings,
        }  # fmt: skip
        if not self._is_peer:
            assert self._process("migrate", "manage.py", "migrate", "-v", "0").popen.wait() == 0
            self._switch_off()
        for role in self._roles:
            role.start(self._folder, self._environment)
        for role in self._roles:
            assert role.process is not None
            role.process.wait_for(role.ready_text)

    def _switch_off(self) -> None:
        change = MUTATIONS.get(self._system, [])
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            if isinstance(change, str):
                connection.execute(change)
                return
            for function, guard, instead in change:
                [source] = connection.execute("SELECT pg_get_functiondef(%s::regproc)", [function]).fetchone() or [""]
                assert source.count(guard) == 1, f"{guard!r} is not once in {function}: what is the guard now?"
                connection.execute(source.replace(guard, instead))

    def _release(self, wave: int, callers: list[Process]) -> None:
        """Let all callers make the calls of a wave, and wait for them, and a while."""
        (self._folder / f"wave {wave}").touch()

        def is_done() -> bool:
            for process in [*callers, *(role.process for role in self._roles)]:
                assert process is not None
                assert process.popen.poll() in (None, 0), process.output()[-3000:]
            return len(list(self._folder.glob(f"done {wave} *"))) == PROCESSES

        until(is_done, f"the calls of wave {wave} are made")
        time.sleep(self._rng.uniform(*BETWEEN))  # nothing to wait for: the distance is a part of the test

    def _settle(self) -> None:
        """Wait until every run that a committed call was given is done, or nothing has been noted for long."""
        wanted = {call.id for call in calls(noted(self._folder / "called")) if call.committed and call.id}
        count, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLING:
            lines = noted(self._folder / "noted")
            if wanted <= {body.id for body in bodies(lines)} and len(lines) == count:
                return
            if len(lines) != count:
                count, since = len(lines), time.monotonic()
            time.sleep(1.0)

    def _end(self) -> None:
        for role in self._roles:
            role.signal(signal.SIGKILL)
            if role.process is not None:
                role.process.popen.wait()
        self._valkey.stop()
        self._postgres.stop()
        shutil.rmtree(self._data, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def main() -> int:
    """0 if there was exactly one run for each key and period; for the mutations, if each was noticed."""
    systems = ["ours", *PEERS, *MUTATIONS]
    parser = argparse.ArgumentParser(prog="python -m tests.fault_injection.unique", description=__doc__)
    parser.add_argument("system", choices=[*systems, "all", "mutations"], nargs="?", default="all")
    parser.add_argument("--seed", default="", help="of the calls and the waves; printed, chosen where none is given")
    parser.add_argument("--waves", type=int, help=f"of {PROCESSES * CALLS:,} calls; {WAVES} unless given")
    given = parser.parse_args()
    # As Ctrl-C does: nothing that was started stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    seed = given.seed or secrets.token_hex(4)

    def is_clean(system: str) -> bool:
        waves = given.waves or (SHORT_WAVES if system in MUTATIONS else WAVES)
        print(
            f"seed {seed}: {system}, {waves} waves of {PROCESSES * CALLS:,} calls from {PROCESSES} processes of "
            f"{THREADS} threads",
            flush=True,
        )
        found = Run(system, seed, waves).verdict()
        if found.unnamed:
            print(f"{found.unnamed:,} callers were not told which run stands for their call")
        if found.early:
            print(f"{found.early:,} runs began before all calls that were given them had been committed")
        print(found, flush=True)
        return found.is_clean

    if given.system == "mutations":
        unseen = [system for system in MUTATIONS if is_clean(system)]
        print(f"not noticed: {', '.join(unseen) or 'none'}")
        return 1 if unseen else 0
    if given.system == "all":
        for peer in PEERS:
            is_clean(peer)
    return 0 if is_clean("ours" if given.system == "all" else given.system) else 1


if __name__ == "__main__":
    sys.exit(main())
