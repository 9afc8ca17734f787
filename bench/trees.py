"""Processes with all their children: starting, ending, CPU time and memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parent.parent
END_TIMEOUT = 20.0
"""Seconds after SIGTERM until the processes are killed."""


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all its descendants, or [] if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def kill(process: psutil.Process) -> None:
    """Kill the whole tree with SIGKILL, as when its container or its node dies."""
    with suppress(psutil.NoSuchProcess):
        process.suspend()  # so that it does not fork meanwhile
    for one in reversed(tree(process)):
        with suppress(psutil.NoSuchProcess):
            one.kill()


def cpu(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds of the trees so far, including those of children that have ended."""
    seconds = 0.0
    for process in processes:
        for one in tree(process):
            with suppress(psutil.NoSuchProcess):
                seconds += sum(one.cpu_times()[:4])
    return seconds


def busy() -> float:
    """Return the seconds that the machine's processors have been busy so far, for all processes."""
    times = psutil.cpu_times()._asdict()
    # user and nice already include the seconds of guests.
    return sum(seconds for name, seconds in times.items() if name not in ("idle", "iowait", "guest", "guest_nice"))


def memory(processes: Iterable[psutil.Process]) -> float:
    """Return the MB of the trees. Shared pages count once (PSS), or for each process if the system has no PSS."""
    total = 0
    for process in processes:
        for one in tree(process):
            with suppress(psutil.NoSuchProcess):
                held = one.memory_full_info()
                total += getattr(held, "pss", held.rss)
    return total / 1e6


class Commands:
    """Commands that run until the block ends. One of them may be killed and restarted. ``log`` gets their output."""

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
        """Send SIGTERM to each command, and after a while SIGKILL to its tree."""
        known = [one for process in self.processes for one in tree(process)]
        for popen in self._popens:
            popen.terminate()
        deadline = time.monotonic() + END_TIMEOUT
        for popen in self._popens:
            with suppress(subprocess.TimeoutExpired):
                popen.wait(max(0.0, deadline - time.monotonic()))
        for one in known:  # psutil also compares the start time, so this cannot hit a process with a reused id
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
        """Wait until each command has printed the text. Raises RuntimeError."""
        deadline = time.monotonic() + timeout
        while self.log.read_text(errors="replace").count(text) < len(self._popens):
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {text!r} within {timeout:.0f} s: {self.tail()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raises RuntimeError if a command has ended by itself."""
        for popen in self._popens:
            if popen.poll() is not None:
                raise RuntimeError(f"{' '.join(map(str, popen.args))} ended with {popen.returncode}: {self.tail()}")

    def kill_and_restart(self, number: int) -> None:
        """Kill and restart one command, as when its container runs out of memory."""
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
