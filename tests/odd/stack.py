"""What is under test: Postgres, a Valkey that takes no value above 1 MB, workers, relay and beat, each watched."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import redis

from app.local.servers import Postgres, Valkey
from tests.fault_injection.local.stack import QUICK, Role
from tests.support.processes import Process

WORKERS, SLOTS = 2, 3
QUEUES = "default,emails,reports"
MOST_REDIS_TAKES = 1_048_576
PLAIN_IN_CODE = ["plain in code 0", "plain in code 1"]
PLAIN_IN_TABLE = ["plain in table 0", "plain in table 1"]
SCHEDULES = [*PLAIN_IN_CODE, *PLAIN_IN_TABLE]
TABLES = """
CREATE TABLE odd_effect (
    call text NOT NULL, part text NOT NULL, at float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp())
)
"""
PLAIN_SCHEDULES = """
WITH made AS (INSERT INTO django_celery_beat_intervalschedule (every, period) VALUES (1, 'seconds') RETURNING id)
INSERT INTO django_celery_beat_periodictask (
    name, task, args, kwargs, headers, interval_id, enabled, one_off, total_run_count, description, date_changed
)
SELECT name, 'odd.plain', json_build_array('ticks', name)::text, '{}', '{}', made.id, true, false, 0, '', now()
FROM unnest(%s::text[]) AS name, made
"""


class SmallValkey(Valkey):
    """It refuses a value above 1 MB as others refuse one above 512 MB."""

    def standard_input(self) -> bytes:
        return super().standard_input() + f"proto-max-bulk-len {MOST_REDIS_TAKES}\n".encode()


class Stack:
    """``probe`` names the module of tests.support.probes that puts a guard out; empty, all are there."""

    def __init__(self, folder: Path, data: Path, probe: str, code_schedules: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.postgres, self.valkey = Postgres(data, durable=False), SmallValkey(data, persist=False)
        self.environment = {
            **QUICK.environment, "LOCAL": "1", "LOG_FORMAT": "json", "VAR_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "app.settings", "TASKRUNS_UNKNOWN_PAUSE": "0.5", "TASKRUNS_UNKNOWN_LIMIT": "2",
            "ODD_PROBE": probe,
            "ODD_CODE_SCHEDULES": json.dumps(code_schedules),
        }  # fmt: skip
        self.workers = [Role(f"worker {number}", self._worker(number), "ready.") for number in range(1, WORKERS + 1)]
        self.relay = Role("relay", [sys.executable, "-m", "tests.odd.relay"], "relay: ready")
        beat = [sys.executable, "-m", "celery", "-A", "tests.odd.beat", "beat", "-l", "info"]
        self.beat = Role("beat", beat, "beat: Starting...")

    @property
    def roles(self) -> list[Role]:
        return [*self.workers, self.relay, self.beat]

    def _worker(self, number: int) -> list[str]:
        return [
            sys.executable, "-m", "celery", "-A", "app", "worker", "-l", "info",
            "--include=tests.odd.probe_in_worker,tests.odd.tasks", "-Q", QUEUES, "-c", str(SLOTS),
            "-n", f"worker{number}@%h", "--without-gossip", "--without-mingle",
        ]  # fmt: skip

    def start(self) -> None:
        """Everything, and wait until it is ready."""
        self.postgres.start()
        self.valkey.start()
        self.environment |= {"DATABASE_URL": self.postgres.url, "REDIS_URL": self.valkey.url}
        migrate = self.run("migrate", [sys.executable, "manage.py", "migrate", "-v", "0"])
        assert migrate.popen.wait() == 0, migrate.output()
        with self.connect() as connection:
            connection.execute(TABLES)
            connection.execute(PLAIN_SCHEDULES, [PLAIN_IN_TABLE])
        for role in self.roles:
            role.start(self.folder, self.environment)
        for role in (*self.workers, self.relay):
            assert role.process is not None
            role.process.wait_for(role.ready_text)

    def run(self, name: str, command: list[str]) -> Process:
        """A process beside the stack."""
        return Process(command, self.folder / f"{name}.log", **self.environment)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=5)

    def waiting(self) -> dict[str, int]:
        """Messages in Redis, by queue."""
        found = {}
        with suppress(redis.RedisError):
            for queue in QUEUES.split(","):
                found[queue] = int(self.valkey.client().llen(queue))  # type: ignore[arg-type]
        return found

    def logs(self) -> dict[str, str]:
        """By role and start."""
        return {
            path.stem: path.read_text(errors="replace")
            for role in self.roles
            for path in sorted(self.folder.glob(f"{role.name.replace(' ', '-')}.*.log"))
        }

    def lines_about(self, *words: str, most: int = 6) -> list[str]:
        """The logs' lines that name one of these."""
        found = []
        for name, text in self.logs().items():
            found += [f"{name}: {line[:400]}" for line in text.splitlines() if any(word in line for word in words)]
        return found[-most:]

    def end(self) -> None:
        """Leave no process behind."""
        for role in self.roles:
            role.signal(9)
            if role.process is not None:
                role.process.popen.wait()
        self.valkey.stop()
        self.postgres.stop()


class Watch:
    """Looks whether every process lives and moves on; what ended is started again, so that the rest can be judged."""

    STILL = 12.0
    """Seconds without a tick (relay, beat: written every 5 s) or heartbeat (workers: every 0.5 s) that are too many."""
    MOST_RESTARTS = 25

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.findings: list[str] = []
        self.mains = {role.name: role.process.pid for role in stack.roles if role.process}
        self._connection = stack.connect()
        self._still: dict[str, float] = {}
        self._last = time.monotonic()
        self.began = self._last

    def look(self, during: str) -> None:
        """A quick look, ``during`` what is said of a finding."""
        now = time.monotonic()
        if now - self._last > 5:
            # We stood still ourselves: the machine did.
            self._still.clear()
        self._last = now
        for role in self.stack.roles:
            if not role.alive:
                assert role.process is not None
                code, log = role.process.popen.returncode, role.process.output().splitlines()[-8:]
                self.findings.append("\n    ".join([f"{role.name} ended with {code} {during}:", *log]))
                assert role.starts < self.MOST_RESTARTS, f"{role.name} ends again and again:\n{self.findings[-1]}"
                role.start(self.stack.folder, self.stack.environment)
                self._still.pop(role.name, None)
        if now - self.began > 30:
            self._look_at_ticks(now, during)

    def _look_at_ticks(self, now: float, during: str) -> None:
        rows = self._connection.execute(
            "SELECT name, extract(epoch FROM clock_timestamp() - at)::float8 FROM taskruns_tick"
        ).fetchall()
        ages = {name: age for name, age in rows if name in ("relay", "beat")}
        for name in ("relay", "beat"):
            ages.setdefault(name, now - self.began)
        for name, lost, age in self._connection.execute(
            """
            SELECT DISTINCT ON (name) name, lost, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8
            FROM taskruns_worker ORDER BY name, id DESC
            """
        ).fetchall():
            ages[name.partition("@")[0]] = age if not lost else self.STILL + 1
        for name, age in ages.items():
            if age <= self.STILL:
                self._still.pop(name, None)
            elif name not in self._still:
                self._still[name] = now
                self.findings.append(f"{name} stands still: no sign of life for {age:.0f} s {during}")

    def close(self) -> None:
        self._connection.close()
