"""The chart's commands for development, on a copy of the code, which is changed under them as Tilt would."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import httpx
import pytest
from celery import current_app
from django.core.management import call_command

from app.local.burst import burst
from app.local.servers import free_port
from app.reports.models import Report
from pressroom.models import TaskRun
from tests.chart.tools import ROOT, environment, one, pod_of, render
from tests.support.processes import Process, Stack
from tests.support.waiting import until

VALUES = ROOT / "deploy" / "tilt" / "values.yaml"
# What each says once it works.
READY = {
    "web": "Booting worker",
    "worker-default": " ready.",
    "beat": "beat: Starting",
    "relay": "relay: ready",
    "exporter": "exporter: ready",
}
NAP = """
import time

OLD = True

@shared_task(queue="default")
def nap() -> str:
    while OLD:
        time.sleep(0.1)
    return "by the new code"
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """What the image has, to be written to."""
    folder = tmp_path / "code"
    for name in ("app", "pressroom"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("manage.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def start(stack: Stack, name: str, code: Path) -> Process:
    """The container's command and settings, but for paths, and ports that may not be free."""
    pod = pod_of(one(render(None, "-f", str(VALUES)), "Deployment", f"press-pressroom-{name}"))
    port = str(free_port())
    *reloader, command = pod["containers"][0]["args"]
    command = command.replace("0.0.0.0:8000", "127.0.0.1:0").replace("9808", port)
    settings = {name: value for name, value in environment(pod).items() if isinstance(value, str)}
    assert settings["TASKRUNS_GRACE"] == "1"
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    folder = code.parent / name
    paths = {"ALIVE_FILE": folder / "alive", "PROMETHEUS_MULTIPROC_DIR": folder / "metrics", "METRICS_PORT": port}
    folder.mkdir()
    settings |= {name: str(value) for name, value in paths.items() if name in settings}
    return stack.start([*reloader, command], READY[name], code, **settings)


def url(web: Process) -> str:
    """Where it listens now."""
    port: str = re.findall(r"Listening at: http://\S+:(\d+)", web.output())[-1]
    return f"http://127.0.0.1:{port}"


def ends(process: Process) -> None:
    """A pod that is deleted ends as quickly as in production, and leaves nothing running."""
    children = process.children()
    assert children
    assert process.stop() == 0
    until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], "its children are gone")


@pytest.mark.parametrize("name", READY)
def test_it_starts_again_with_the_new_code(name: str, stack: Stack, code: Path) -> None:
    process = start(stack, name, code)
    changed = time.monotonic()
    with (code / "app" / "__init__.py").open("a") as file:
        file.write('\nprint("the new code", flush=True)\n')
    until(lambda: READY[name] in process.output().partition("the new code")[2], f"{name} works again")
    if name == "web":
        assert httpx.get(f"{url(process)}/livez", timeout=60).status_code == 200
    print(f"{name}: {time.monotonic() - changed:.1f} s from the change until it works again")
    # It ended when it was told to.
    assert "SIGKILL" not in process.output()
    ends(process)


def test_code_that_cannot_be_loaded_is_waited_out(stack: Stack, code: Path) -> None:
    """A container that ended would come back with the code of its image."""
    process = start(stack, "relay", code)
    file = code / "pressroom" / "relay" / "loop.py"
    right = file.read_text()
    file.write_text("def\n")
    process.wait_for("SyntaxError")
    file.write_text(right)
    until(lambda: READY["relay"] in process.output().partition("SyntaxError")[2], "the relay works again")
    ends(process)


def test_a_task_that_runs_meanwhile_starts_again_with_the_new_code(stack: Stack, code: Path) -> None:
    file = code / "app" / "blog" / "tasks.py"
    file.write_text(file.read_text() + NAP)
    start(stack, "relay", code)
    worker = start(stack, "worker-default", code)
    current_app.send_task("app.blog.tasks.nap", queue="default")
    until(lambda: TaskRun.objects.filter(status="running").exists(), "it runs")
    file.write_text(file.read_text().replace("OLD = True", "OLD = False"))
    until(lambda: TaskRun.objects.filter(status="succeeded").exists(), "it is done")
    run = TaskRun.objects.get()
    assert (json.loads(run.result), run.losses) == ("by the new code", 0)
    assert "SIGKILL" not in worker.output()


def test_a_burst_of_reports(stack: Stack, code: Path) -> None:
    call_command("demo_data")
    web = start(stack, "web", code)
    burst(url(web), reports=3)
    ordered = TaskRun.objects.filter(name="app.reports.tasks.build_report", status="queued")
    assert len(ordered) == 3
    assert set(ordered.values_list("pk", flat=True)) == set(Report.objects.values_list("task", flat=True))
