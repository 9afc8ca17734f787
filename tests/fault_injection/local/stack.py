"""What is judged: a Postgres, a Valkey, a relay and workers; what ends is started again."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import redis

from app.local.servers import Postgres, Valkey
from tests.support.notes import noted
from tests.support.processes import Process

WORKERS, SLOTS = 3, 4
QUEUE = "default"
TABLE = """
CREATE TABLE oracle_effect (
    call text NOT NULL, part text NOT NULL, at float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp())
)
"""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds."""

    silence: float
    """After which the work of a silent worker is given to others."""
    settle: float
    """Without any effect, after which what is not there counts as lost; while all processes are up."""
    rest: float
    """That a process has worked before it is hit again: one that is dead all the time cannot do anything wrong."""
    environment: dict[str, str]


PRODUCTION = Timing(20, 90, 5, {"VISIBILITY_TIMEOUT": "30"})
QUICK = Timing(
    5, 25, 1,
    {"TASKRUNS_HEARTBEAT": "0.5", "TASKRUNS_SILENCE": "5", "TASKRUNS_UNCLAIMED": "3", "VISIBILITY_TIMEOUT": "8"},
)  # fmt: skip


class Role:
    """A place in the stack, and the process that fills it."""

    def __init__(self, name: str, command: list[str], ready_text: str) -> None:
        self.name = name
        self.command = command
        self.ready_text = ready_text
        self.paused = False
        self.starts = 0
        self.process: Process | None = None
        self._ready_since: float | None = None

    def start(self, folder: Path, environment: dict[str, str]) -> None:
        log = folder / f"{self.name.replace(' ', '-')}.{self.starts}.log"
        self.process = Process(self.command, log, **environment)
        self.starts += 1
        self._ready_since, self.paused = None, False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.popen.poll() is None

    def ready(self, rest: float) -> bool:
        """Whether it said so many seconds ago that it works, and is not paused."""
        if not self.alive or self.paused:
            return False
        assert self.process is not None
        if self._ready_since is None and self.ready_text in self.process.output():
            self._ready_since = time.monotonic()
        return self._ready_since is not None and time.monotonic() - self._ready_since >= rest

    def signal(self, number: int) -> None:
        """To the process and its children, which have groups of their own."""
        if self.alive:
            assert self.process is not None
            for pid in [self.process.pid, *self.children()]:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def go_on(self, process: Process | None, main: bool) -> None:
        """Wake the paused process, or its children only, where it is still the one in this place."""
        if self.process is process and self.alive:
            assert process is not None
            for pid in [process.pid] if main else self.children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.paused = not main

    def children(self) -> list[int]:
        return self.process.children() if self.process is not None and self.alive else []


class Stack:
    """``system`` is "ours", "bundles" (ours, all tasks in bundles), "stock" or "without-<guard>": ours without that."""

    def __init__(self, folder: Path, data: Path, system: str, timing: Timing) -> None:
        self.folder = folder
        self.system = system
        self.timing = timing
        self.postgres, self.valkey = Postgres(data), Valkey(data)
        self.crashed: list[str] = []
        """Whose process ended without our doing, with its exit code and the end of its log."""
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.workers = [Role(f"worker {n}", self._worker(n), "ready.") for n in range(1, WORKERS + 1)]
        self.relay = None if system == "stock" else Role("relay", self._relay(), "relay: ready")
        self.environment: dict[str, str] = {}

    @property
    def roles(self) -> list[Role]:
        return [*self.workers, *([self.relay] if self.relay else [])]

    def _worker(self, number: int) -> list[str]:
        app = "tests.fault_injection.local.stock" if self.system == "stock" else "app"
        include = "tests.fault_injection.local.tasks"
        if self.system in ("without-claim", "without-fence", "without-heartbeat"):
            include += f",tests.support.probes.{self.system.replace('-', '_')}"
        if self.system == "bundles":
            include += ",tests.support.probes.bundled"
        return [
            sys.executable, "-m", "celery", "-A", app, "worker", "-l", "info", f"--include={include}", "-Q", QUEUE,
            "-c", str(SLOTS), "-n", f"worker{number}@%h", "--without-gossip", "--without-mingle",
        ]  # fmt: skip

    def _relay(self) -> list[str]:
        if self.system == "without-reconciler":
            return [sys.executable, "-m", "tests.support.probes.relay_without_reconciler"]
        if self.system == "bundles":
            return [sys.executable, "-m", "tests.support.probes.relay_narrow"]
        return [sys.executable, "manage.py", "relay"]

    def start(self) -> None:
        """Everything, and wait until it is ready."""
        self.postgres.start()
        self.valkey.start()
        settings = "tests.fault_injection.local.stock_settings" if self.system == "stock" else "app.settings"
        self.environment = {
            **self.timing.environment, "DATABASE_URL": self.postgres.url, "REDIS_URL": self.valkey.url, "LOCAL": "1",
            "VAR_DIR": str(self.folder), "ORACLE_FOLDER": str(self.folder), "DJANGO_SETTINGS_MODULE": settings,
            "PUSHED_FILE": f"{self.folder}/pushed",
        }  # fmt: skip
        if self.system == "without-claim":
            # A run leaves the table of live runs with its end: only one that is still under work can be claimed twice.
            self.environment["ORACLE_PAUSE"] = "1.5"
        if self.system != "stock":
            self.run("migrate", [sys.executable, "manage.py", "migrate", "-v", "0"]).popen.wait()
        with self.connect() as connection:
            connection.execute(TABLE)
        for role in self.roles:
            role.start(self.folder, self.environment)
        for role in self.roles:
            assert role.process is not None
            role.process.wait_for(role.ready_text)

    def run(self, name: str, command: list[str]) -> Process:
        """A process beside the stack."""
        return Process(command, self.folder / f"{name}.log", **self.environment)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=5)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it so many seconds from now, when `keep` is called."""
        self._later.append((time.monotonic() + seconds, action))

    def keep(self) -> None:
        """Start again what has ended, as Kubernetes would, and do what is due."""
        due = [entry for entry in self._later if entry[0] <= time.monotonic()]
        for entry in due:
            self._later.remove(entry)
            entry[1]()
        for role in self.roles:
            if not role.alive:
                assert role.process is not None
                log = role.process.output().splitlines()[-12:]
                self.crashed.append("\n  ".join([f"{role.name}: {role.process.popen.returncode}", *log]))
                self.restart(role)
            role.ready(0)  # notes since when

    def restart(self, role: Role) -> None:
        """Kill it and start it again."""
        role.signal(signal.SIGKILL)
        assert role.process is not None
        role.process.popen.wait()
        role.start(self.folder, self.environment)

    def working(self) -> set[int]:
        """The processes that work on a task, or died of it."""
        last: dict[int, str] = {}
        for line in noted(self.folder / "working"):
            _, pid, word, _ = line.split(" ", 3)
            last[int(pid)] = word
        return {pid for pid, word in last.items() if word == "begins"}

    def waiting(self) -> int:
        """Messages in Redis; 0 while it is away."""
        return self._count("llen", QUEUE)

    def _count(self, command: str, key: str) -> int:
        try:
            return int(getattr(self.valkey.client(), command)(key))
        except redis.RedisError:
            return 0

    @property
    def whole(self) -> bool:
        """Whether all is there again that a fault took away, and works."""
        services = self.postgres.running and self.valkey.running
        return services and not self._later and all(role.ready(0) for role in self.roles)

    def left(self) -> str:
        """What is left that could still run: messages in Redis, and live runs of our ledger. Empty: nothing."""
        if count := self.waiting():
            return f"{count} messages"
        if self.system == "stock":
            count = self._count("hlen", "unacked")
            return f"{count} messages under work" if count else ""
        with self.connect() as connection:
            rows = connection.execute(
                """
                SELECT name, status, published_at, started_at, attempt, error FROM taskruns_taskrun
                WHERE status IN ('queued', 'retrying', 'running') LIMIT 5
                """
            ).fetchall()
        return "; ".join(" ".join(map(str, row)) for row in rows)

    def end(self) -> None:
        """Leave no process behind."""
        for role in self.roles:
            role.signal(signal.SIGKILL)
            if role.process is not None:
                role.process.popen.wait()
        self.valkey.stop()
        self.postgres.stop()
