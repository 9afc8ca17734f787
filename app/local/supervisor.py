"""Runs the processes of ``make up`` together, prefixes their output with their names, and restarts those that die.

``docs/decisions/0004-our-own-supervisor.md`` says why this is not honcho.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, NamedTuple

GUARDIAN = Path(__file__).with_name("guardian.py")
COLOURS = ("36", "33", "32", "35", "34", "31", "96", "93")
STEADY = 30.0
"""Seconds after which a process counts as stable. If it dies later, its first restart is quick again."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds until a dead process is restarted. The pause doubles each time that it dies soon after a start."""


class Ended(Exception):
    """Everything must end. The text says why. ``wanted`` is true if somebody asked for it."""

    def __init__(self, reason: str, wanted: bool = False) -> None:
        super().__init__(reason)
        self.wanted = wanted


@dataclasses.dataclass
class Member:
    """A process that the supervisor keeps running."""

    name: str
    launch: Callable[[], subprocess.Popen[Any]]
    process: subprocess.Popen[Any]
    started: float
    deaths: int = 0
    """Number of consecutive deaths soon after a start."""
    is_service: bool = False

    def pause(self) -> float:
        """Count a death and return the seconds until the restart."""
        self.deaths = 1 if time.monotonic() - self.started > STEADY else self.deaths + 1
        return min(FIRST_PAUSE * 2.0 ** min(self.deaths - 1, 10), LONGEST_PAUSE)


class Died(NamedTuple):
    """A process has ended without being asked to."""

    name: str
    pid: int
    how: str


class Printer:
    """Prints the lines of several processes to one output, each with its source in front; in colour on a terminal."""

    def __init__(self, output: IO[str], names: list[str]) -> None:
        self._output = output
        self._width = max(map(len, names))
        self._colour = dict(zip(names, COLOURS, strict=False)) if output.isatty() else {}
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        prefix = f"{time.strftime('%H:%M:%S')} {name.ljust(self._width)} |"
        if name in self._colour:
            prefix = f"\033[{self._colour[name]}m{prefix}\033[0m"
        with self._lock:
            try:
                print(prefix, line, file=self._output, flush=True)
            except OSError:  # the terminal is gone, but everything must still end in order
                pass


class Guardian:
    """The manager's side of ``guardian.py``. However this process ends, the guardian ends all watched processes."""

    def __init__(self, keep_open: tuple[int, ...] = (), script: Path = GUARDIAN) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd="/",
            pass_fds=keep_open,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def watch(self, name: str, pid: int, end_signal: int, stage: int) -> None:
        """Watch ``pid``, which leads its own process group. Processes of stage 1 end before those of stage 0."""
        self._tell(f"watch {pid} {name} {end_signal:d} {stage}")

    def forget(self, pid: int) -> None:
        """Stop watching a process that has ended, because its id may be reused."""
        self._tell(f"forget {pid}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.write(f"{line}\n")

    def end(self) -> None:
        """Ask the guardian to end everything, without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        self._process.wait()


class Supervisor:
    """Starts processes in groups of their own. Before ``wait``, the end of one process ends everything; from then on
    the supervisor restarts it."""

    def __init__(self, guardian: Guardian, printer: Printer) -> None:
        self._guardian = guardian
        self._print = printer
        self._events: SimpleQueue[Ended | Died | str] = SimpleQueue()
        self._members: dict[str, Member] = {}
        self._readers: list[threading.Thread] = []
        self._stopping = False

    def handle_signals(self) -> None:
        """From now on, SIGINT, SIGTERM and SIGHUP end everything. A second signal kills at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: object) -> None:
        if self._stopping:
            for member in list(self._members.values()):
                if member.process.poll() is None and not member.is_service:
                    os.killpg(member.process.pid, signal.SIGKILL)
        self._events.put(Ended(f"{signal.Signals(number).name} received", wanted=True))

    def start(self, name: str, command: list[str], env: Mapping[str, str], ready: str = "") -> None:
        """Start a process. With ``ready``, the process counts as ready at its first line that contains this text."""

        def launch() -> subprocess.Popen[Any]:
            process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._guardian.watch(name, process.pid, signal.SIGTERM, stage=1)
            reader = threading.Thread(target=self._read, args=(name, process, ready), daemon=True)
            reader.start()
            self._readers = [*filter(threading.Thread.is_alive, self._readers), reader]
            return process

        self._keep(Member(name, launch, launch(), time.monotonic()))

    def adopt(self, name: str, process: subprocess.Popen[bytes], launch: Callable[[], subprocess.Popen[bytes]]) -> None:
        """Keep a server running that the guardian already watches. ``launch`` restarts it and informs the guardian."""
        self._keep(Member(name, launch, process, time.monotonic(), is_service=True))

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {name: member.process.pid for name, member in self._members.items()}

    def _keep(self, member: Member) -> None:
        self._members[member.name] = member
        threading.Thread(target=self._await, args=(member.name, member.process), daemon=True).start()

    def _read(self, name: str, process: subprocess.Popen[str], ready: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                self._print(name, line.rstrip())
            if ready and ready in line:
                ready = ""
                self._events.put(name)

    def _await(self, name: str, process: subprocess.Popen[Any]) -> None:
        code = process.wait()
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        self._events.put(Died(name, process.pid, how))

    def run(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        """Run a command until it ends. Raises Ended if it or another process fails, or on a signal."""
        self.start(name, command, env)
        while True:
            event = self._events.get()
            if isinstance(event, Died) and (event.name, event.how) == (name, "exit code 0"):
                self._guardian.forget(event.pid)
                del self._members[name]
                return
            _end_of_all(event)

    def wait_ready(self, names: set[str], also: Callable[[], bool], timeout: float) -> None:
        """Wait until all names are ready and ``also()`` is true. Raises Ended if a process ends before that."""
        deadline = time.monotonic() + timeout
        while names or not also():
            if time.monotonic() > deadline:
                raise Ended(f"not ready within {timeout:.0f} s: {', '.join(sorted(names)) or 'web'}")
            event = self._next(0.1)
            _end_of_all(event)
            names = names - {event}

    def wait(self) -> None:
        """Restart processes that die, after a pause, until a signal raises Ended."""
        due: dict[str, float] = {}
        while True:
            timeout = max(0.0, min(due.values()) - time.monotonic()) if due else None
            event = self._next(timeout)
            if isinstance(event, Ended):
                raise event
            if isinstance(event, Died):
                member = self._members[event.name]
                self._bury(event.pid)
                pause = member.pause()
                due[event.name] = time.monotonic() + pause
                self._print("up", f"{event.name} ended ({event.how}), restarting in {pause:.0f} s")
            for name in [name for name, moment in due.items() if moment <= time.monotonic()]:
                del due[name]
                member = self._members[name]
                member.process, member.started = member.launch(), time.monotonic()
                self._keep(member)
                self._print("up", f"{name} restarted (process {member.process.pid})")

    def _bury(self, pid: int) -> None:
        """Kill the rest of a dead process's group, as a container ends with its first process."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # the group is empty; macOS raises the latter for a zombie
            pass
        self._guardian.forget(pid)

    def _next(self, timeout: float | None) -> Ended | Died | str:
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return ""

    def stop(self) -> None:
        """End everything and wait until no process is left."""
        self._stopping = True
        self._guardian.end()
        for member in self._members.values():
            member.process.wait()
        self._guardian.wait()
        for reader in self._readers:  # wait for the last lines, with a limit, in case another process holds a pipe open
            reader.join(timeout=1.0)


def _end_of_all(event: Ended | Died | str) -> None:
    """Raise Ended for any end during the start: a process that fails to start once would fail again."""
    if isinstance(event, Died):
        raise Ended(f"{event.name} ended ({event.how})")
    if isinstance(event, Ended):
        raise event
