"""A release's files, made here as its workflow makes them; what looks for new versions and for vulnerable ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.local.servers import free_port
from tests.chart.tools import ROOT, run, tool

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = "ghcr.io/somebody/pressroom"
PROGRAM = ROOT / "deploy" / "release.py"


def release(*arguments: str, helm: str = "helm") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, *arguments]
    return subprocess.run(command, env={**os.environ, "HELM": helm}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a release has, beside an SBOM that the workflow put there."""
    made = tmp_path_factory.mktemp("release")
    (made / f"pressroom-{VERSION}.spdx.json").write_text("{}")
    done = release("files", IMAGE, str(made), helm=tool("helm", "HELM"))
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.slow
class TestFiles:
    def test_there_are_no_others(self, folder: Path) -> None:
        assert {path.name for path in folder.iterdir()} == {
            f"pressroom-{VERSION}-py3-none-any.whl", f"pressroom-{VERSION}.tar.gz", f"pressroom-chart-{VERSION}.tgz",
            f"pressroom-{VERSION}.spdx.json", "SHA256SUMS",
        }  # fmt: skip

    def test_sha256sum_checks_them(self, folder: Path) -> None:
        check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
        done = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout.count(": OK") == 4
        wheel = next(folder.glob("*.whl"))
        content = wheel.read_bytes()
        try:
            wheel.write_bytes(content + b"\n")
            assert subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode == 1
        finally:
            wheel.write_bytes(content)

    def test_the_charts_image_is_the_one_that_was_published(self, folder: Path) -> None:
        chart = folder / f"pressroom-chart-{VERSION}.tgz"
        needed = ["--set=site.url=https://press.example.com"]
        manifests = run(tool("helm", "HELM"), "template", "press", str(chart), *needed)
        assert f'image: "{IMAGE}:{VERSION}"' in manifests or f"image: {IMAGE}:{VERSION}" in manifests
        own = yaml.safe_load((ROOT / "deploy" / "helm" / "pressroom" / "values.yaml").read_text())
        assert own["image"]["repository"] == "pressroom"  # the checkout's chart stays as it was

    def test_the_sdist_has_what_the_wheel_has(self, folder: Path) -> None:
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            built = {name.removeprefix("pressroom/") for name in wheel.namelist() if name.startswith("pressroom/")}
        with tarfile.open(folder / f"pressroom-{VERSION}.tar.gz") as sdist:
            names = {name.removeprefix(f"pressroom-{VERSION}/") for name in sdist.getnames()}
        assert {"__init__.py", "models/__init__.py"} <= built
        assert built <= names - {".gitignore", "PKG-INFO"}
        assert "pyproject.toml" in names


def test_the_notes_are_the_changelogs_section() -> None:
    done = release("notes")
    text = (ROOT / "CHANGELOG.md").read_text()
    assert done.returncode == 0
    assert done.stdout.strip()
    assert f"\n## [{VERSION}]\n\n{done.stdout.strip()}\n" in text
    assert "## [" not in done.stdout


@pytest.mark.parametrize("image", ["", "pressroom", "ghcr.io/Somebody/pressroom", "ghcr.io/a/b\n  tag: x", "a/b c"])
def test_what_is_no_repository_of_an_image_is_refused(tmp_path: Path, image: str) -> None:
    done = release("files", image, str(tmp_path / "dist"))
    assert done.returncode == 2
    assert "is not the repository of an image" in done.stderr
    assert not (tmp_path / "dist").exists()


class Advisories:
    """A server that answers as OSV does. It knows one vulnerability, of ``vulnerable``."""

    def __init__(self) -> None:
        self.vulnerable: str | None = None
        self.asked: set[tuple[str, str]] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
                outer.asked |= {(query["package"]["name"], query["version"]) for query in queries}
                self.answer({"results": [outer.vulnerabilities(query["package"]["name"]) for query in queries]})

            def do_GET(self) -> None:
                fixed = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.1"}]}]
                package = {"name": outer.vulnerable, "ecosystem": "PyPI"}
                self.answer(
                    {
                        "id": "TEST-1", "modified": "2026-01-01T00:00:00Z", "summary": "It lets anybody in",
                        "affected": [{"package": package, "ranges": fixed}],
                    }
                )  # fmt: skip

            def answer(self, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def vulnerabilities(self, name: str) -> dict[str, Any]:
        return {"vulns": [{"id": "TEST-1", "modified": "2026-01-01T00:00:00Z"}]} if name == self.vulnerable else {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/"


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    found = Advisories()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


class TestAudit:
    def audit(self, url: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "--silent", "audit", f"ARGS=--service-url={url}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)

    def test_it_fails_with_what_is_vulnerable(self, advisories: Advisories) -> None:
        advisories.vulnerable = "django"
        done = self.audit(advisories.url)
        assert done.returncode != 0
        for word in ("django", "TEST-1", "It lets anybody in", "999.1"):
            assert word in done.stdout

    def test_it_asks_for_all_that_is_locked(self, advisories: Advisories) -> None:
        done = self.audit(advisories.url)
        assert done.returncode == 0, done.stdout + done.stderr
        locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        assert advisories.asked == {(one["name"], one["version"]) for one in locked if "registry" in one["source"]}

    def test_it_fails_where_it_could_not_ask(self) -> None:
        assert self.audit(f"http://127.0.0.1:{free_port()}/").returncode != 0


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "renovate.json").read_text())["packageRules"]
    return found


def test_renovate_groups_each_kind_of_dependency() -> None:
    grouped = {manager for rule in rules() if "groupName" in rule for manager in rule["matchManagers"]}
    assert {"pep621", "github-actions", "dockerfile", "docker-compose", "helm-values", "custom.regex"} <= grouped
    assert "schedule:weekly" in json.loads((ROOT / "renovate.json").read_text())["extends"]


@pytest.mark.parametrize(("name", "declared"), [("Makefile", r"^\w+_VERSION := "), ("Dockerfile", r"^ARG UV_VERSION=")])
def test_renovate_finds_each_version_of_a_tool(name: str, declared: str) -> None:
    """Its presets `makefileVersions` and `dockerfileVersions` look for a comment before the line."""
    text = (ROOT / name).read_text()
    marked = re.findall(
        r"^# renovate: datasource=[a-z-]+ depName=[^\s]+(?: extractVersion=[^\s]+)?\n" + declared[1:],
        text,
        re.MULTILINE,
    )
    assert marked
    assert len(marked) == len(re.findall(declared, text, re.MULTILINE))
