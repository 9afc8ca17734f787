"""Real processes of the stack under test, against the test's own database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
from django.db import connection

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(**extra: str) -> dict[str, str]:
    """This process's environment, with the database that the running test uses."""
    db = connection.settings_dict
    host = quote(db["HOST"] or "127.0.0.1", safe="")
    url = f"postgres://{db['USER']}:{db['PASSWORD']}@{host}:{db['PORT'] or 5432}/{db['NAME']}"
    return {**os.environ, "DATABASE_URL": url, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **extra}


class Process:
    """A child process whose output goes to a file; it is gone, with all its children, when the test is."""

    def __init__(self, command: list[str], log: Path, cwd: Path = ROOT, **extra: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, cwd=cwd, env=environment(**extra), stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Until ``text`` stands in the output. Raises AssertionError when the process ended without it."""

        def there() -> bool:
            if text in self.output():
                return True
            assert self.popen.poll() is None, f"exit {self.popen.returncode} before {text!r}:\n{self.output()}"
            return False

        until(there, f"{text!r} in {self.log}")

    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL to the process and every child of it, as when a container or its node dies."""
        for pid in [self.pid, *self.children()]:
            os.kill(pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self) -> int:
        """SIGTERM, and wait. Returns the exit code; raises AssertionError that says where it hangs."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER prints every thread's stack
            self.popen.wait(timeout=120)
            raise AssertionError(f"SIGTERM did not end it:\n{self.output()[-20000:]}") from None

    def end(self) -> None:
        """Leave nothing behind."""
        if self.popen.poll() is None:
            self.kill()


class Stack:
    """Starts relays and workers; quick to notice a silent worker, so that a test need not wait 20 s."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.timing = {"TASKRUNS_HEARTBEAT": "0.5", "TASKRUNS_SILENCE": "5", "TASKRUNS_UNCLAIMED": "3"}

    def start(self, command: list[str], ready: str, cwd: Path = ROOT, **extra: str) -> Process:
        log = self.folder / f"{len(self.processes)}.log"
        process = Process(command, log, cwd, **self.timing, **extra)
        self.processes.append(process)
        process.wait_for(ready)
        return process

    def relay(self, **extra: str) -> Process:
        return self.start([sys.executable, "manage.py", "relay"], "relay: ready", **extra)

    def worker(self, *arguments: str, include: str = "tests.support.probes.tasks", **extra: str) -> Process:
        command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-l", "info", f"--include={include}"]
        command += ["--without-gossip", "--without-mingle"]
        defaults = [] if any(a.startswith(("-c", "--concurrency")) for a in arguments) else ["--concurrency=2"]
        return self.start([*command, *defaults, *arguments], "ready.", **extra)


@contextmanager
def stack_in(folder: Path) -> Iterator[Stack]:
    """A stack whose processes are all gone at the end."""
    stack = Stack(folder)
    try:
        yield stack
    finally:
        for process in stack.processes:
            process.end()
