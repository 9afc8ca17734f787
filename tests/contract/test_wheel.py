"""The library by itself: its wheel in an empty Django project, without the site."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from app.local.running import settings_names
from app.local.servers import PROJECT
from pressroom.conf import DEFAULTS


def python_in_readme(number: int) -> str:
    """One of the files that the library's README says to write."""
    blocks = re.findall(
        r"^ *```python\n(.*?)```", (PROJECT / "pressroom" / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return textwrap.dedent(blocks[1 + number])


SETTINGS = """
import os
from pressroom.queues import Queue

SECRET_KEY = "of a test"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
    "django.contrib.sessions", "rest_framework", "django_celery_beat", "pressroom", "pressroom.operations", "shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES = {"default": {
    "ENGINE": "pressroom.database", "NAME": os.environ["NAME"], "HOST": os.environ["HOST"],
    "PORT": os.environ["PORT"], "USER": os.environ["USER_NAME"], "PASSWORD": os.environ["PASSWORD"],
}}
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
USE_TZ = True
TASKRUNS_QUEUES = [Queue("default", "prefork", 1, 300, 360, max_attempts=3, max_wait=60)]
CELERY_BROKER_URL = os.environ["BROKER"]
"""
FILES = {
    "shop/__init__.py": python_in_readme(1).replace("yourproject", "shop"),
    "shop/settings.py": SETTINGS,
    "shop/celery.py": python_in_readme(0).replace("yourproject", "shop"),
    "shop/tasks.py": """
from celery import shared_task

@shared_task
def add(one, other):
    return one + other
""",
    "shop/urls.py": """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/operations/", include("pressroom.operations.urls")),
    path("admin/", admin.site.urls),
    path("api/", include("pressroom.http.urls")),
]
""",
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
execute_from_command_line(sys.argv)
""",
}
EACH_MODULE = """
import importlib, pkgutil, pressroom
assert pressroom.__file__.startswith({folder!r}), pressroom.__file__
for found in pkgutil.walk_packages(pressroom.__path__, "pressroom."):
    importlib.import_module(found.name)
"""


class Project:
    """An empty Django project, with the wheel before everything else on its path."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, *arguments]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content."""
    made, folder = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("packages")
    build = ["build", "--package=pressroom", "--wheel", "--no-build-isolation", "--quiet", f"--out-dir={made}"]
    subprocess.run([PROJECT / ".tools" / "bin" / "uv", *build], cwd=PROJECT, check=True, timeout=300)
    [file] = made.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, wheel: Path, db: None, redis_server: Any) -> Iterator[Project]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.lstrip())
    at = connection.get_connection_params()
    name = f"wheel_{os.getpid()}"
    with psycopg.connect(**at | {"cursor_factory": psycopg.Cursor}, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield Project(
                tmp_path,
                {
                    "PATH": os.environ["PATH"], "PYTHONPATH": str(wheel), "BROKER": redis_server.url,
                    "NAME": name,
                    "HOST": str(at.get("host", "")), "PORT": str(at.get("port", "")),
                    "USER_NAME": str(at.get("user", "")), "PASSWORD": str(at.get("password", "")),
                },
            )  # fmt: skip
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_it_imports_migrates_and_runs_a_task_in_an_empty_project(project: Project, wheel: Path) -> None:
    project.run("manage.py", "check")
    project.run("manage.py", "makemigrations", "--check", "--dry-run")
    project.run("manage.py", "migrate", "--verbosity=0")
    misspelt = "from shop.tasks import add; add.apply_async((2, 3), queue='defualt')"
    refused = subprocess.run(
        project.command("manage.py", "shell", "--no-imports", "-c", misspelt), cwd=project.folder, env=project.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "TASKRUNS_QUEUES declares default" in refused.stderr
    project.run("manage.py", "shell", "--no-imports", "-c", EACH_MODULE.format(folder=str(wheel)))
    started = [
        subprocess.Popen(project.command(*arguments), cwd=project.folder, env=project.env)
        for arguments in (["manage.py", "relay"], ["-m", "celery", "-A", "shop", "worker", "--concurrency=1"])
    ]
    try:
        call = "from shop.tasks import add; print(add.delay(2, 3).get(timeout=240))"
        assert project.run("manage.py", "shell", "--no-imports", "-c", call).strip() == "5"
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def test_the_site_asks_for_what_the_library_does() -> None:
    """One lock holds both: the same versions are tested and shipped."""
    site, library = (
        tomllib.loads((PROJECT / name).read_text())["project"]
        for name in ("pyproject.toml", "pressroom/pyproject.toml")
    )
    assert set(library["dependencies"]) <= set(site["dependencies"])
    assert library["version"] == site["version"]
    assert library["requires-python"] == site["requires-python"]


def test_the_sites_defaults_are_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both write these numbers: a site reads them from its environment, another project has them from the library."""
    for name in settings_names() - {"LOCAL"}:
        monkeypatch.delenv(name, raising=False)
    site = runpy.run_path(str(PROJECT / "app" / "settings.py"))
    own = {"TASKRUNS_QUEUES", "TASKRUNS_APPS", "CELERY_BROKER_TRANSPORT_OPTIONS", "CELERY_BEAT_SCHEDULE"}
    shared = DEFAULTS.keys() & site.keys() - own
    assert len(shared) > 15
    assert {name: site[name] for name in shared} == {name: DEFAULTS[name] for name in shared}
