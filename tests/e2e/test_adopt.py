"""docs/adopt.md, carried out on a new project of `django-admin startproject`: until a killed worker loses nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
import yaml
from django.db import connection

from pressroom.conf import DEFAULTS
from pressroom.process.environment import SETTINGS
from tests.support.adopt_page import PAGE, blocks, build_wheel, write
from tests.support.waiting import until

BEGUN = "gate.begun"


class Adopter:
    """Somebody who reads the page, with the packages of this environment."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.started: list[subprocess.Popen[bytes]] = []

    def follow(self, *, until_section: str | None = None, after_section: str | None = None) -> None:
        for kind, block in blocks(after=after_section, until=until_section):
            if kind == "python":
                write(self.folder, block)
            else:
                for command in re.findall(r"^\$ python (.+)$", block, re.MULTILINE):
                    self.run(*command.split())

    def run(self, *arguments: str, ok: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *arguments: str, ready: str, **options: Any) -> subprocess.Popen[bytes]:
        log = self.folder / f"{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=self.folder, env=self.env, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, **options,
            )  # fmt: skip
        self.started.append(process)

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            return ready in log.read_text()

        until(is_ready, f"{arguments}: {ready!r}")
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("-m", "celery", "-A", "mysite", "worker", "-l", "info", "-Q", "default", ready="ready.")


def kill(process: subprocess.Popen[bytes]) -> None:
    """All of it, as when its container dies."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()


@pytest.fixture
def adopter(tmp_path: Path, db: None, redis_server: Any) -> Iterator[Adopter]:
    """A new project, an empty database, and the library as a wheel."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        archive.extractall(tmp_path / "packages")
    at = connection.get_connection_params()
    name = f"adopt_{os.getpid()}"
    with psycopg.connect(**at | {"cursor_factory": psycopg.Cursor}, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        project = Adopter(
            tmp_path / "project",
            {
                "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "packages"), "REDIS_URL": redis_server.url,
                "DATABASE_URL": "postgres://{user}@{host}:{port}/{name}".format_map(
                    {part: quote(str(at.get(part, "")), safe="") for part in ("user", "host", "port")} | {"name": name}
                ),
                "PGPASSWORD": str(at.get("password", "")),
            },
        )  # fmt: skip
        project.folder.mkdir()
        try:
            project.run("-m", "django", "startproject", "mysite", ".")
            yield project
        finally:
            for process in project.started:
                if process.poll() is None:
                    kill(process)
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.timeout(1200)
def test_the_page_from_the_top_until_a_killed_worker_loses_nothing(adopter: Adopter) -> None:
    adopter.follow(until_section="1. Install")
    adopter.run("manage.py", "check")  # as stock Celery
    adopter.follow(after_section="1. Install", until_section="4. Check, migrate, run")
    adopter.follow(after_section="4. Check, migrate, run", until_section="On Kubernetes")

    adopter.start("manage.py", "relay", ready="")
    first = adopter.worker()
    caller = adopter.start("manage.py", "shell", ready="", stdin=(adopter.folder / "try_it.py").open())
    begun, gate = adopter.folder / BEGUN, adopter.folder / "gate"
    until(begun.exists, "a worker has begun it")
    kill(first)
    adopter.worker()
    until(lambda: begun.read_text() == "xx", "another has begun it again")
    gate.touch()
    assert caller.wait(timeout=300) == 0
    assert "2 workers have begun it" in (adopter.folder / "2.log").read_text()

    # What the page says that is refused, is; and by a worker too.
    settings = adopter.folder / "mysite" / "settings.py"
    right = settings.read_text()
    for wrong, named in {
        "TASKRUNS_RETENTON = {}": "Did you mean TASKRUNS_RETENTION?",
        "TASKRUNS_GRACE = '25'": "TASKRUNS_GRACE is '25'",
        "TASKRUNS_QUEUES = ['default']": "a list of pressroom.queues.Queue",
        "DATABASES['default']['ENGINE'] = 'django.db.backends.postgresql'": 'Set it to "pressroom.database"',
        "CELERY_BROKER_URL = 'amqp://'": "Set CELERY_BROKER_URL to redis://",
    }.items():
        settings.write_text(f"{right}\n{wrong}\n")
        assert named in adopter.run("manage.py", "check", ok=False)
    settings.write_text(f"{right}\nTASKRUNS_GRACE = '25'\n")
    assert "cannot start" in adopter.run("-m", "celery", "-A", "mysite", "worker", ok=False)


@pytest.mark.timeout(1200)
def test_the_chart_of_such_a_project_has_what_it_needs(adopter: Adopter) -> None:
    """As far as that needs no cluster: tests/e2e/cluster/adopted.py deploys it."""
    adopter.follow(until_section="4. Check, migrate, run")
    for kind, block in blocks(after="On Kubernetes", until="Settings"):
        if kind == "python":
            write(adopter.folder, block)
    alive = adopter.folder / "alive"
    adopter.env |= {"ALIVE_FILE": str(alive), "TASKRUNS_HEARTBEAT": "2", "ALLOWED_HOSTS": "x.example"}
    table = yaml.safe_load(adopter.run("manage.py", "queues"))["queues"]
    assert [row["name"] for row in table] == ["default"]
    adopter.run("manage.py", "migrate", "--no-input", "--wait=60", "--lock-timeout=2")
    ask = "from django.test import Client; print(Client().get('/readyz', headers={'host': '10.1.2.3'}).content)"
    assert "b'ready\\n'" in adopter.run("manage.py", "shell", "-c", ask)
    # Before Django is set up, as Celery's commands read it.
    scheduler = "from mysite.celery import app; print(app.conf.beat_scheduler)"
    assert "pressroom.beat.scheduler:LedgerScheduler" in adopter.run("-c", scheduler)
    test = ["manage.py", "smoke_test", "--queues", json.dumps(table)]
    assert "prune is still queued after 1 s: see the logs of relay" in adopter.run(*test, "--timeout=1", ok=False)
    adopter.start("manage.py", "relay", ready="")
    adopter.worker()
    until(lambda: alive.read_text() == "ready\n", "the alive file says ready")
    assert "a task, run by a worker" in adopter.run(*test)


JOBS = """
from pressroom.django_tasks.framework import task


@task
def double(number):
    return 2 * number
"""
CALL_JOB = """
import time
from mysite.jobs import double
result = double.enqueue(21)
while not result.is_finished:
    time.sleep(0.1)
    result.refresh()
print("returned", result.return_value)
"""


@pytest.mark.timeout(1200)
def test_a_worker_loads_a_django_task_from_a_module_that_it_has_not_imported(adopter: Adopter) -> None:
    """In its main process, which then knows the name, and in a child that was forked before."""
    adopter.follow(until_section="4. Check, migrate, run")
    settings = adopter.folder / "mysite" / "settings.py"
    backend = '{"default": {"BACKEND": "pressroom.django_tasks.LedgerBackend"}}'
    settings.write_text(f"{settings.read_text()}\nINSTALLED_APPS += ['django_tasks']\nTASKS = {backend}\n")
    (adopter.folder / "mysite" / "jobs.py").write_text(JOBS)
    (adopter.folder / "call.py").write_text(CALL_JOB)
    adopter.run("manage.py", "migrate", "--verbosity=0")
    adopter.start("manage.py", "relay", ready="")
    adopter.worker()
    for number in (2, 3):
        caller = adopter.start("manage.py", "shell", ready="", stdin=(adopter.folder / "call.py").open())
        assert caller.wait(timeout=300) == 0
        assert "returned 42" in (adopter.folder / f"{number}.log").read_text()


def test_the_page_has_each_variable_of_the_chart_with_its_setting() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    for setting, (_, variable) in SETTINGS.items():
        assert [row for row in rows if f"`{variable}`" in row[1] and f"`{setting}`" in row[2]], setting


def test_the_page_has_each_setting_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `(TASKRUNS_\w+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE))
    assert set(rows) == {name for name in DEFAULTS if name.startswith("TASKRUNS_")}
    for name, text in rows.items():
        if type(DEFAULTS[name]) in (int, float):
            assert text == str(DEFAULTS[name]), name
