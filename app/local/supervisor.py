"""Runs the processes of ``make up`` together: what one writes gets its name in front, when one ends all end.

Why not honcho: ``docs/decisions/0004-our-own-supervisor.md``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

GUARDIAN = Path(__file__).with_name("guardian.py")
COLOURS = ("36", "33", "32", "35", "34", "31", "96", "93")


class Ended(Exception):
    """All must end: the text says why. ``wanted`` when someone asked for it."""

    def __init__(self, reason: str, wanted: bool = False) -> None:
        super().__init__(reason)
        self.wanted = wanted


class Printer:
    """Lines of several processes on one output, each with its source in front; in colour on a terminal."""

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
            except OSError:  # the terminal is gone, the rest must still end in order
                pass


class Guardian:
    """Our side of ``guardian.py``. Leaving it, in whatever way, ends everything that it was told of."""

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
        """``pid`` leads a process group of its own; those of stage 1 end before those of stage 0."""
        self._tell(f"watch {pid} {name} {end_signal:d} {stage}")

    def forget(self, pid: int) -> None:
        """It has ended: its id may come to belong to another."""
        self._tell(f"forget {pid}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.write(f"{line}\n")

    def end(self) -> None:
        """Ask for the end, without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        self._process.wait()


class Supervisor:
    """Starts processes in groups of their own and tells when one has ended."""

    def __init__(self, guardian: Guardian, printer: Printer) -> None:
        self._guardian = guardian
        self._print = printer
        self._events: SimpleQueue[Ended | str] = SimpleQueue()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._adopted: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []
        self._stopping = False

    def handle_signals(self) -> None:
        """From here on SIGINT, SIGTERM and SIGHUP end all; a second one at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: object) -> None:
        if self._stopping:
            for process in list(self._running.values()):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        self._events.put(Ended(f"{signal.Signals(number).name} received", wanted=True))

    def start(self, name: str, command: list[str], env: Mapping[str, str], ready: str = "") -> None:
        """Start a process. Where ``ready`` is given, its first line with that text counts as its readiness."""
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
        self._running[name] = process
        reader = threading.Thread(target=self._read, args=(name, process, ready), daemon=True)
        reader.start()
        self._readers.append(reader)
        threading.Thread(target=self._await, args=(name, process), daemon=True).start()

    def adopt(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """All end when this one does, too; the guardian knows it already."""
        self._adopted.append(process)
        threading.Thread(target=self._await, args=(name, process), daemon=True).start()

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
        self._events.put(Ended(f"{name} ended ({how})"))

    def run(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        """Run a command to its end. Raises Ended when it fails, or on a signal."""
        self.start(name, command, env)
        try:
            self._next(None)
        except Ended as ended:
            process = self._running[name]
            if ended.wanted or process.poll() != 0:
                raise
            self._guardian.forget(process.pid)
            del self._running[name]

    def wait_ready(self, names: set[str], also: Callable[[], bool], timeout: float) -> None:
        """Until each name has told its readiness and ``also()`` holds. Raises Ended when something ends before."""
        deadline = time.monotonic() + timeout
        while names or not also():
            if time.monotonic() > deadline:
                raise Ended(f"not ready within {timeout:.0f} s: {', '.join(sorted(names)) or 'web'}")
            names = names - {self._next(0.1)}

    def wait(self) -> None:
        """Forever. Raises Ended when a process ends or a signal comes."""
        while True:
            self._next(None)

    def _next(self, timeout: float | None) -> str:
        try:
            event = self._events.get(timeout=timeout)
        except Empty:
            return ""
        if isinstance(event, Ended):
            raise event
        return event

    def stop(self) -> None:
        """End all and wait until nothing is left."""
        self._stopping = True
        self._guardian.end()
        processes: list[subprocess.Popen[Any]] = [*self._running.values(), *self._adopted]
        for process in processes:
            process.wait()
        self._guardian.wait()
        for reader in self._readers:  # their last lines; bounded, should someone else hold a pipe open
            reader.join(timeout=1.0)
