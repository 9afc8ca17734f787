"""The process manager of ``make up``: what ends, in which order and why, and what comes back."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.local import guardian, supervisor
from tests.support.waiting import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent

# A process with a child, as a worker with a prefork pool; each notes the signals it gets.
FAMILY = """
import os, signal, sys, time
notes, how = sys.argv[1:]
def note(line):
    with open(notes, "a") as file:
        file.write(line + "\\n")
def handle(who):
    def handler(number, frame):
        note(f"{who} got {signal.Signals(number).name}")
        if how != "stubborn":
            sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
child = os.fork()
handle("child" if child == 0 else "parent")
note(f"pid {os.getpid()}")
if child == 0:
    while how == "stubborn" or os.getppid() != 1:
        time.sleep(0.01)
        if how != "stubborn" and os.getppid() == 1:
            break
    sys.exit(0)
if how == "dies":
    sys.exit(3)
print("family ready", flush=True)
while True:
    signal.pause()
"""

# What `make up` does with its processes, with the grace periods cut to a second.
DRIVER = """
import re, sys, tempfile
from pathlib import Path
from app.local import supervisor as s
notes, *hows = sys.argv[1:]
script = Path(tempfile.mkdtemp()) / "guardian.py"
code = Path("app/local/guardian.py").read_text()
s.FIRST_PAUSE = 0.01
script.write_text(re.sub(r"(?m)^GRACE = .*$", "GRACE = {1: 1.0, 0: 1.0}", code))
guardian = s.Guardian(script=script)
runner = s.Supervisor(guardian, s.Printer(sys.stdout, ["manager", *hows]))
runner.handle_signals()
code = 0
try:
    for how in hows:
        runner.start(how, [sys.executable, "-c", Path(notes + ".py").read_text(), notes, how], {}, ready="family ready")
    runner.wait_ready(set(hows), lambda: True, 60)
    print("all ready", flush=True)
    runner.wait()
except s.Ended as ended:
    print("because:", ended, flush=True)
    code = 0 if ended.wanted else 1
finally:
    runner.stop()
print("all ended", flush=True)
sys.exit(code)
"""


class Managed:
    """A manager with its processes."""

    def __init__(self, folder: Path, *hows: str) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        (folder / "notes.py").write_text(textwrap.dedent(FAMILY))
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.notes), *hows],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines() if line.startswith("pid")]

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        read = ""
        for line in self.process.stdout:
            read += line
            if text in line:
                return read
        raise AssertionError(f"ended without {text!r}:\n{read}")

    def nothing_left(self) -> bool:
        return all(gone(pid) for pid in self.pids())


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[type]:
    started: list[Managed] = []

    class Here(Managed):
        def __init__(self, *hows: str) -> None:
            super().__init__(tmp_path, *hows)
            started.append(self)

    yield Here
    for each in started:
        for pid in [each.process.pid, *each.pids()]:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
        each.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_and_reaches_no_child(managed: type, number: signal.Signals) -> None:
    manager = managed("quick", "other")
    manager.read_until("all ready")
    until(lambda: len(manager.pids()) == 4, "both have a child")
    manager.process.send_signal(number)
    said = manager.read_until("all ended")

    assert manager.process.wait() == 0
    assert f"because: {number.name} received" in said
    assert manager.nothing_left()
    assert [line for line in manager.lines() if "got" in line] == ["parent got SIGTERM"] * 2


def test_what_does_not_end_is_killed_with_its_children(managed: type) -> None:
    manager = managed("stubborn")
    manager.read_until("all ready")
    until(lambda: len(manager.pids()) == 2, "it has a child")
    manager.process.send_signal(signal.SIGINT)
    said = manager.read_until("all ended")

    assert "stubborn did not end within 1 s: killed" in said
    assert manager.nothing_left()


def test_a_second_signal_does_not_wait(managed: type) -> None:
    manager = managed("stubborn")
    manager.read_until("all ready")
    manager.process.send_signal(signal.SIGINT)
    manager.read_until("because")
    until(lambda: "parent got SIGTERM" in manager.lines(), "it is being stopped")
    manager.process.send_signal(signal.SIGINT)
    said = manager.read_until("all ended")

    assert "killed" not in said
    assert manager.nothing_left()


def test_what_dies_while_all_start_ends_the_rest_and_is_named(managed: type) -> None:
    manager = managed("quick", "dies")
    said = manager.read_until("all ended")

    assert manager.process.wait() == 1
    assert "because: dies ended (exit code 3)" in said
    assert manager.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_dies_later_is_named_and_started_again(managed: type, number: signal.Signals) -> None:
    manager = managed("quick", "other")
    manager.read_until("all ready")
    until(lambda: len(manager.pids()) == 4, "both have a child")
    before = manager.pids()
    # The parent of each family is the leader of its group; what is left of the family goes with it, as in a container.
    dead = next(pid for pid in before if os.getpgid(pid) == pid)
    os.kill(dead, number)
    how = "SIGKILL" if number == signal.SIGKILL else "exit code 0"
    manager.read_until(f" ended ({how}), restarting in 0 s")
    manager.read_until("restarted (process ")
    until(lambda: len(manager.pids()) == 6, "a new one has a child, too")
    until(lambda: sum(map(gone, before)) == 2, "of the old ones the family of the dead is gone")

    manager.process.send_signal(signal.SIGINT)
    manager.read_until("all ended")
    assert manager.process.wait() == 0
    assert manager.nothing_left()


def test_pauses_grow_while_a_process_dies_soon_and_shrink_once_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    member = supervisor.Member("relay", lambda: pytest.fail("not here"), None, time.monotonic())  # type: ignore[arg-type]
    assert [member.pause() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    member.started -= supervisor.STEADY + 1
    assert member.pause() == 1


@pytest.mark.parametrize("how", ["quick", "stubborn"])
def test_nothing_outlives_a_killed_manager(managed: type, how: str) -> None:
    manager = managed(how)
    manager.read_until("all ready")
    until(lambda: len(manager.pids()) == 2, "it has a child")
    manager.process.kill()

    until(manager.nothing_left, "all have ended")


def test_lines_carry_the_name_of_their_process(managed: type) -> None:
    manager = managed("quick")
    said = manager.read_until("all ready")

    assert any(line.split()[1:] == ["quick", "|", "family", "ready"] for line in said.splitlines())


def test_all_is_over_within_15_seconds() -> None:
    assert sum(guardian.GRACE.values()) < 15


def test_the_guardian_needs_nothing_of_ours() -> None:
    """It must start at once and from any folder: by path, isolated, with the standard library."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-I", guardian.__file__], input="", text=True, cwd="/", check=False)
    assert (done.returncode, time.monotonic() - began < 10) == (0, True)
