"""`make up` and `make demo`, for real: the processes, the mails, what works beside it, and what is left after."""

import fcntl
import io
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import psutil
import pytest
from pypdf import PdfReader

from app.local.servers import data_folder, free_port
from app.queues import QUEUES
from tests.support.plugin import settings_names
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent


class Up:
    """A `make up` of its own, with its data in ``var``."""

    def __init__(self, var: Path, port: int) -> None:
        self.var = var
        self.url = f"http://127.0.0.1:{port}"
        # Of the tests' own settings and services it knows nothing.
        self.env = {name: value for name, value in os.environ.items() if name not in settings_names()}
        self.exporter = free_port()
        self.env |= {"VAR_DIR": str(var), "PORT": str(port), "EXPORTER_PORT": str(self.exporter)}
        self.log = var.with_name(f"{var.name}-{time.monotonic_ns()}.log")
        # A terminal of its own, as Ctrl-C is a matter of terminals.
        self.terminal, theirs = pty.openpty()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["make", "--no-print-directory", "-o", "install-local", "up"],
                cwd=ROOT, env=self.env, stdin=theirs, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
        os.close(theirs)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        def there() -> bool:
            if text in self.output():
                return True
            assert self.process.poll() is None, f"ended without {text!r}:\n{self.output()}"
            return False

        until(there, f"{text!r} in the output")

    def second(self, **env: str) -> subprocess.CompletedProcess[str]:
        """Another one, beside this."""
        command = [sys.executable, "-m", "app.local.up"]
        return subprocess.run(command, cwd=ROOT, env=self.env | env, capture_output=True, text=True, check=False)

    def beside(self, *command: str, text: str = "") -> str:
        """What a command says in another terminal, where nothing is set but the folder."""
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "VAR_DIR": str(self.var)}
        done = subprocess.run(command, cwd=ROOT, env=env, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def site_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/") as answer:
                return answer.status == 200
        except OSError:
            return False

    def processes(self) -> dict[int, str]:
        """All that were started by it and run: they have its environment, whoever their parent is by now."""
        found = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get("VAR_DIR") == str(self.var) and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def pid_of(self, text: str) -> int:
        return min(pid for pid, command in self.processes().items() if text in command)

    def ctrl_c(self) -> None:
        os.write(self.terminal, b"\x03")


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    var = tmp_path_factory.mktemp("up") / "var"
    yield var
    shutil.rmtree(data_folder(var), ignore_errors=True)


@pytest.fixture
def up(var: Path) -> Iterator[Up]:
    up = Up(var, free_port())
    yield up
    for pid in up.processes():
        os.kill(pid, signal.SIGKILL)
    up.process.wait()
    os.close(up.terminal)


def test_all_of_it(up: Up) -> None:
    """From the first start to Ctrl-C: what the README's first screen promises."""
    up.wait_for("Pressroom is ready")
    for link in ("/api/docs/", "/admin/", "/feed/"):
        assert f"{up.url}{link}" in up.output()
    assert str(up.var / "mail") in up.output()
    figures = f"http://127.0.0.1:{up.exporter}/metrics"
    assert figures in up.output()
    with urllib.request.urlopen(figures) as answer:
        assert b'celery_active_worker_count{queue_name="reports"} 1.0' in answer.read()

    demo = subprocess.run(
        ["make", "--no-print-directory", "-o", "install-local", "demo", f"BASE_URL={up.url}"],
        cwd=ROOT, env=up.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "1,002 mails sent" in demo.stdout
    mails = [message_from_bytes(path.read_bytes()) for path in (up.var / "mail").iterdir() if path.is_file()]
    assert len(mails) == 1002
    assert set(Counter(mail["To"] for mail in mails).values()) == {1}
    [summary] = [mail for mail in mails if mail["To"] == "admin@example.com"]
    [attached] = [part for part in summary.walk() if part.get_content_type() == "application/pdf"]
    [report] = (up.var / "demo").glob("report-*.pdf")
    for pdf in (report.read_bytes(), attached.get_payload(decode=True)):
        assert len(PdfReader(io.BytesIO(pdf)).pages) >= 2
    for what in ("post ", "cover, ", "report, ", " KRW paid"):
        assert what in demo.stdout

    # A report by hand, as the README orders one.
    readme = (ROOT / "README.md").read_text()
    [token, order] = re.findall(r"^\$ (token=.*|curl .*/api/reports/.*)$", readme, re.MULTILINE)
    by_hand = f"{token}\n{order}".replace("localhost:8000", up.url.removeprefix("http://"))
    assert up.beside("bash", "-euc", by_hand.replace(".venv/bin/python", sys.executable)).startswith("HTTP/1.1 202 ")

    second = up.second(PORT=str(free_port()))
    assert (second.returncode, second.stdout) == (1, "")
    assert re.match(rf"make up: `make up` already runs here \(process \d+\), at {up.url}/\n", second.stderr)
    assert "`make up VAR_DIR=/another/folder PORT=8001`" in second.stderr

    before = time.monotonic()
    up.ctrl_c()
    up.process.wait(timeout=60)
    assert time.monotonic() - before < 15
    assert "SIGINT received: stopping" in up.output()
    assert up.processes() == {}


def test_the_table_of_faults_can_be_tried(up: Up) -> None:
    """Whatever is killed comes back, and what is called meanwhile is done. What stands beside it needs no settings."""
    up.wait_for("Pressroom is ready")
    make = ["make", "--no-print-directory", "-o", "install-local"]
    assert f"{len(QUEUES)} nodes online" in up.beside(sys.executable, "-m", "celery", "-A", "app", "inspect", "ping")
    assert up.beside(*make, "psql", text="SELECT 'subscribers', count(*) FROM blog_subscriber;").count("1000") == 1
    address = re.search(r"postgres://\S+", up.output())[0]
    shown = up.beside(*make, "shell", text="from django.conf import settings; print(settings.DATABASE_URL)")
    assert address in shown
    up.beside(sys.executable, "manage.py", "deadletters", "list")

    listed = up.output().partition("Kill any of these")[2]
    pids = {name: int(pid) for name, pid in re.findall(r"([a-z-]+) (\d+)", listed)}
    assert {"postgres", "valkey", "web", "beat", "relay", "exporter", "worker-default"} <= set(pids)
    killed = ("postgres", "valkey", "web", "beat", "relay", "exporter", "worker-default")
    for name in killed:
        os.kill(pids[name], signal.SIGKILL)
    for name in killed:
        up.wait_for(f"{name} ended (SIGKILL), restarting in 1 s")
        up.wait_for(f"{name} restarted (process ")
    until(up.site_answers, "the site answers again")
    call = "from pressroom.tasks import prune; print(prune.delay().get(timeout=120))"
    up.beside(*make, "shell", text=call)
    assert address == re.search(r"postgres://\S+", up.output())[0]

    up.ctrl_c()
    up.process.wait(timeout=60)
    assert up.processes() == {}


def test_nothing_outlives_a_killed_manager_and_the_next_start_works(up: Up, var: Path) -> None:
    up.wait_for("Pressroom is ready")
    os.kill(up.pid_of("app.local.up"), signal.SIGKILL)
    until(lambda: up.processes() == {}, "all have ended", timeout=30)
    gone = subprocess.run(
        [sys.executable, "-m", "app.local.beside", "shell"],
        cwd=ROOT, env=up.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (gone.returncode, "no `make up` is running here" in gone.stderr) == (1, True)

    again = Up(var, free_port())
    try:
        again.wait_for("Pressroom is ready")
        again.ctrl_c()
        again.process.wait(timeout=60)
        assert again.processes() == {}
    finally:
        for pid in again.processes():
            os.kill(pid, signal.SIGKILL)
        again.process.wait()
        os.close(again.terminal)


def test_a_busy_port_is_refused_in_a_line(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in settings_names()}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "app.local.up"],
            cwd=ROOT, env=env | {"PORT": port, "VAR_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"make up: port {port} is not free .*\n", done.stderr)


def test_the_demo_says_what_failed() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "app/local/demo.py", "http://127.0.0.1:1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is `make up` running?" in done.stderr
