"""What `deploy/slim.py` takes out of the image is not missed."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from app.local.servers import PROJECT

SLIM: dict[str, Any] = runpy.run_path(str(PROJECT / "deploy" / "slim.py"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with what is in ours: links, so that what is deleted is deleted there only."""
    folder = tmp_path_factory.mktemp("slim") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = packages_of(folder)
    packages.rmdir()
    shutil.copytree(sysconfig.get_path("purelib"), packages, copy_function=os.symlink)
    return folder


def packages_of(folder: Path) -> Path:
    [packages] = folder.glob("lib/python3*/site-packages")
    return packages


@pytest.mark.slow
def test_without_it_the_application_is_whole(environment: Path, tmp_path: Path) -> None:
    packages = packages_of(environment)
    before = sum(1 for _ in packages.rglob("*"))
    assert SLIM["slim"](packages) > 400
    assert sum(1 for _ in packages.rglob("*")) < before - 2000
    env = {"PATH": os.environ["PATH"], "STATIC_ROOT": str(tmp_path)}
    python = str(environment / "bin" / "python")
    subprocess.run(
        [python, "manage.py", "collectstatic", "--no-input"], cwd=PROJECT, env=env | {"LOCAL": "1"}, check=True
    )
    with (PROJECT / "tests" / "support" / "probes" / "whole.py").open() as probe:
        done = subprocess.run(
            [python, "-"], cwd=PROJECT, env=env, stdin=probe, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "static files" in done.stdout.splitlines()[-1]
    celery = subprocess.run(
        [python, "-m", "celery", "-A", "app", "amqp", "--help"], cwd=PROJECT, env=env | {"LOCAL": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "basic.publish" in celery.stdout
    assert "repl" not in celery.stdout
    with pytest.raises(LookupError, match="services: nothing found"):
        SLIM["slim"](packages)
