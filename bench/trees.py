"""Processes with all their children: started, ended, and what they cost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from app.local.servers import PROJECT

END_TIMEOUT = 20.0
"""Seconds after SIGTERM until a tree is killed."""


def tree(process: psutil.Process) -> list[psutil.Process]:
    """It and all below it; empty where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def kill(process: psutil.Process) -> None:
    """SIGKILL to the whole tree, as when its container or its node dies."""
    with suppress(psutil.NoSuchProcess):
        process.suspend()  # or it forks while we look
    for one in reversed(tree(process)):
        with suppress(psutil.NoSuchProcess):
            one.kill()


def cpu(processes: Iterable[psutil.Process]) -> float:
    """Seconds of the trees so far, with those of children that have ended."""
    seconds = 0.0
    for process in processes:
        for one in tree(process):
            with suppress(psutil.NoSuchProcess):
                seconds += sum(one.cpu_times()[:4])
    return seconds


def busy() -> float:
    """Seconds that the machine's processors worked so far, for whomever."""
    times = psutil.cpu_times()._asdict()
    # A guest's seconds are in user and nice already.
    return sum(seconds for name, seconds in times.items() if name not in ("idle", "iowait", "guest", "guest_nice"))


def memory(processes: Iterable[psutil.Process]) -> float:
    """MB that the trees hold, shared pages counted once (PSS); resident ones where the system does not tell."""
    total = 0
    for process in processes:
        for one in tree(process):
            with suppress(psutil.NoSuchProcess):
                held = one.memory_full_info()
                total += getattr(held, "pss", held.rss)
    return total / 1e6


class Commands:
    """Commands that run until ``stop``, or until one is killed and started again; what they say goes into ``log``."""

    def __init__(self, commands: Sequence[Sequence[str]], log: Path) -> None:
        self._commands = commands
        self.log = log
        self._popens: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Commands:
        try:
            for command in self._commands:
                self._popens.append(self._start(command))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """SIGTERM to each, and after a while SIGKILL to its tree."""
        known = [one for process in self.processes for one in tree(process)]
        for popen in self._popens:
            popen.terminate()
        deadline = time.monotonic() + END_TIMEOUT
        for popen in self._popens:
            with suppress(subprocess.TimeoutExpired):
                popen.wait(max(0.0, deadline - time.monotonic()))
        for one in known:  # psutil knows a process by its start as well: none is another's
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for popen in self._popens:
            popen.wait()
        psutil.wait_procs(known, timeout=END_TIMEOUT)

    @property
    def processes(self) -> list[psutil.Process]:
        found = []
        for popen in self._popens:
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(popen.pid))
        return found

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Until each command has said it. Raises RuntimeError."""
        deadline = time.monotonic() + timeout
        while self.log.read_text(errors="replace").count(text) < len(self._popens):
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {text!r} within {timeout:.0f} s: {self.tail()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raises RuntimeError when one has ended by itself."""
        for popen in self._popens:
            if popen.poll() is not None:
                raise RuntimeError(f"{' '.join(map(str, popen.args))} ended with {popen.returncode}: {self.tail()}")

    def kill_and_restart(self, number: int) -> None:
        """As a container is that runs out of memory."""
        number %= len(self._popens)
        with suppress(psutil.NoSuchProcess):
            kill(psutil.Process(self._popens[number].pid))
        self._popens[number].wait()
        self._popens[number] = self._start(self._commands[number])

    def tail(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
