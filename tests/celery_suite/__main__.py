"""``python -m tests.celery_suite``: Celery's integration suite against stock Celery and against ours, each for itself.

Every run has a Valkey, and ours a Postgres, of its own; a real worker and, for ours, a real relay. What failed is tried
again twice, for the suite marks many of its tests as flaky. The last line says how many pass; 1 is returned unless each
difference stands in `docs/celery.md`, and each that stands there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from app.local.servers import PROJECT, Postgres, Valkey, data_folder
from tests.celery_suite.outcomes import FAILED, RESULTS, Outcome, compare, listed_in, read

DOCUMENT = PROJECT / "docs" / "celery.md"
ATTEMPTS = 3
LONGEST_RUN = 3600
"""Seconds for one attempt at the whole suite: a hang guard."""
START_TIMEOUT = 600
NODE = ["-n", "suite@%h"]
QUIET = ["-l", "info", "--without-gossip", "--without-mingle", "--without-heartbeat"]
STOP = threading.Event()
"""Set by a signal: no more is tried."""


def fetched() -> Path:
    """The folder ``t`` of the sdist of the Celery that is installed, which is the one in ``uv.lock``."""
    name = f"celery-{version('celery')}"
    folder = PROJECT / ".tools" / name
    if not (folder / "t").is_dir():
        with tempfile.TemporaryDirectory() as temporary:
            pip = [PROJECT / ".tools" / "bin" / "python", "-m", "pip", "download", "--quiet", "--no-deps"]
            wanted = f"celery=={version('celery')}"
            subprocess.run([*pip, "--no-binary", "celery", "--dest", temporary, wanted], check=True)
            with tarfile.open(next(Path(temporary).glob("*.tar.gz"))) as archive:
                archive.extractall(temporary, filter="data")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copytree(Path(temporary) / name / "t", folder / "t")
    return folder / "t"


@dataclasses.dataclass
class Run:
    """One pass through the suite."""

    folder: Path
    suite: Path
    system: str
    """``stock`` or ``ours``."""
    results: str = "Redis"
    selected: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.outcomes = self.folder / "outcomes"
        shutil.copytree(self.suite, self.folder / "t")
        with (self.folder / "t" / "integration" / "conftest.py").open("a") as conftest:
            conftest.write("\n\nfrom tests.celery_suite.adapted import *  # noqa\n")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.worker: subprocess.Popen[bytes] | None = None
        self.ended = 0
        """How often the worker ended by itself, and was started again for the tests that followed."""

    def __call__(self) -> dict[str, Outcome]:
        """Outcome by test."""
        data = data_folder(self.folder)
        valkey, postgres = Valkey(data, persist=False), Postgres(data, durable=False)
        try:
            valkey.start()
            # The suite's own connections know no password.
            valkey.client().config_set("requirepass", "")
            url = f"redis://127.0.0.1:{valkey.port}"
            environment = {
                **os.environ, "PYTHONPATH": f"{PROJECT}:{self.folder}", "PYTHONUNBUFFERED": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(valkey.port), "REDIS_URL": url,
                "TEST_BROKER": f"{url}/0", "TEST_BACKEND": f"{url}/1", "SUITE_SYSTEM": self.system,
                "SUITE_OUTCOMES": str(self.outcomes), "SUITE_WORKER": f"suite@{socket.gethostname()}",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }  # fmt: skip
            environment.pop("DJANGO_SETTINGS_MODULE", None)
            # Celery prefers it to the configuration, by which the suite skips tests.
            environment.pop("CELERY_RESULT_BACKEND", None)
            if self.system == "ours":
                postgres.start()
                backend = f"{url}/1" if self.results == "Redis" else "pressroom.celery_app.result_backend:LedgerBackend"
                environment |= {
                    "DJANGO_SETTINGS_MODULE": "app.settings", "DATABASE_URL": postgres.url, "LOCAL": "1",
                    "VAR_DIR": str(self.folder), "STATIC_ROOT": str(self.folder), "TASKRUNS_HEARTBEAT": "0.5",
                    "SUITE_RESULTS": backend,
                }  # fmt: skip
                migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
                subprocess.run(migrate, cwd=PROJECT, env=environment, check=True)
                self._start("relay", [sys.executable, "-m", "tests.celery_suite.relay"], environment, "relay: ready")
            self._start_worker(environment)
            return self._attempts(environment)
        finally:
            for process in reversed(self.processes):
                if process.poll() is None:
                    process.terminate()
            for process in self.processes:
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            valkey.stop()
            postgres.stop()
            if data != self.folder:
                shutil.rmtree(data, ignore_errors=True)

    def _start_worker(self, environment: dict[str, str]) -> None:
        worker = [sys.executable, "-m", "celery", "-A", "tests.celery_suite.worker", "worker", "-c1", *NODE, *QUIET]
        self.worker = self._start(f"worker.{self.ended}", worker, environment, "ready.")

    def _start(self, name: str, command: list[str], environment: dict[str, str], ready: str) -> subprocess.Popen[bytes]:
        from tests.support.waiting import until

        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self.processes.append(process)

        def there() -> bool:
            assert process.poll() is None, f"{name} ended:\n{log.read_text(errors='replace')}"
            return ready in log.read_text(errors="replace")

        until(there, f"{name}: {ready}", START_TIMEOUT)
        return process

    def _attempts(self, environment: dict[str, str]) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        wanted = ["t/integration"]
        command = [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", "-p", "pytest_timeout"]
        command += ["-p", "celery.contrib.pytest", "-p", "no:cacheprovider"]
        command += ["--rootdir=.", "-c/dev/null", "-opython_classes=test_*", "-oxfail_strict=true", "--tb=short"]
        command += [f"-k{self.selected}"] if self.selected else []
        for attempt in range(ATTEMPTS):
            self.outcomes.unlink(missing_ok=True)
            with (self.folder / f"pytest.{attempt}.log").open("wb") as output:
                tests = subprocess.Popen(
                    [*command, *wanted], cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
                )
            end = time.monotonic() + LONGEST_RUN
            while tests.poll() is None and time.monotonic() < end and not STOP.wait(0.5):
                if self.worker is not None and self.worker.poll() is not None:
                    self.ended += 1
                    self._start_worker(environment)
            if tests.poll() is None:
                tests.kill()
                tests.wait()
                return found | read(self.outcomes)
            found |= read(self.outcomes)
            failed = [f"t/integration/{name}" for name, outcome in found.items() if outcome.state == FAILED]
            if not failed:
                break
            wanted = failed
        return found


def main() -> int:
    """0 where every difference is listed, and the other way round."""
    parser = argparse.ArgumentParser(prog="python -m tests.celery_suite", description=__doc__)
    parser.add_argument("--suite", type=Path, help="a folder `t` in the place of the one from Celery's sdist")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the differences are listed")
    parser.add_argument("--only", choices=["stock", *RESULTS], help="run that alone, and print what failed")
    parser.add_argument("--results", choices=RESULTS, action="append", help="ours with results there only")
    parser.add_argument("-k", default="", help="of the tests only those, as pytest's -k")
    parser.add_argument("--keep", type=Path, help="an absent folder for the logs, which stays")
    given = parser.parse_args()
    # Nothing that was started stays behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: STOP.set())
    folder = given.keep or Path(tempfile.mkdtemp(prefix="pressroom-suite-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    try:
        suite = given.suite or fetched()
        runs = (
            {"stock": Run(folder / "stock", suite, "stock", selected=given.k)} if given.only in (None, "stock") else {}
        )
        for results in given.results or RESULTS:
            if given.only in (None, results):
                runs[results] = Run(folder / results.lower(), suite, "ours", results, given.k)
        with ThreadPoolExecutor(len(runs)) as pool:
            found = dict(zip(runs, pool.map(lambda run: run(), runs.values()), strict=True))
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if STOP.is_set():
        print("ended before the end")
        return 1
    if given.only:
        outcomes = found[given.only]
        for name, outcome in outcomes.items():
            if outcome.state == FAILED:
                print(f"{name}: {(outcome.text.strip().splitlines() or ['?'])[-1]}")
        print(
            f"{given.only}: {sum(outcome.state == 'passed' for outcome in outcomes.values())} of {len(outcomes)} pass"
        )
        return 0
    stock = found.pop("stock")
    wrong, lines = compare(stock, found, listed_in(given.document.read_text()))
    wrong += [
        f"{name}: the worker ended {run.ended} times" for name, run in runs.items() if run.ended and name in found
    ]
    if runs["stock"].ended:
        lines.insert(0, f"stock: the worker ended {runs['stock'].ended} times, and was started again")
    print("\n".join([*wrong, f"stock: {len(stock)} tests", *lines]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
