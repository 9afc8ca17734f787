"""What Docker, compose and the chart say of the project is what the project says."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import yaml

from app.queues import QUEUES
from app.settings import SPECTACULAR_SETTINGS
from pressroom.tracing import ENDPOINTS
from tests.support.plugin import settings_names

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CHART = ROOT / "deploy" / "helm" / "pressroom"


def test_compose_has_one_worker_a_queue_with_the_numbers_of_the_table() -> None:
    workers = {}
    for name, service in COMPOSE["services"].items():
        command = shlex.split(service.get("command", ""))
        if "worker" in command:
            workers[name] = {flag: command[command.index(flag) + 1] for flag in ("-Q", "-P", "-c")}
    assert workers == {
        f"worker-{queue.name}": {"-Q": queue.name, "-P": queue.pool, "-c": str(queue.concurrency)} for queue in QUEUES
    }


def test_every_variable_that_is_set_is_one_that_is_read() -> None:
    # CE_BROKER_URL is celery-exporter's.
    read = settings_names() | {"PGPASSWORD", "PROMETHEUS_MULTIPROC_DIR", "CE_BROKER_URL", "DJANGO_SETTINGS_MODULE"}
    assert set(COMPOSE["x-app"]["environment"]) <= read
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    config = re.findall(r"^([A-Z][A-Z0-9_]+): ", (CHART / "templates" / "config.yaml").read_text(), re.MULTILINE)
    own = re.findall(r'"([A-Z][A-Z0-9]*_[A-Z0-9_]+|PGPASSWORD)"', templates)
    assert {"DATABASE_URL", "SITE_URL"} <= set(config)
    assert {"TASKRUNS_GRACE", "ALIVE_FILE", "PGPASSWORD"} <= set(own)
    assert set(config) | set(own) <= read | set(ENDPOINTS)


def test_the_version_is_one() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())["global"]["chartVersion"]
    [image] = re.findall(r"^ARG VERSION=(.+)$", DOCKERFILE, re.MULTILINE)
    assert {chart["version"], chart["appVersion"], SPECTACULAR_SETTINGS["VERSION"], values, image} == {version}
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_image_is_built_with_the_tools_of_the_makefile() -> None:
    [makefile] = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [dockerfile] = re.findall(r"^ARG UV_VERSION=(.+)$", DOCKERFILE, re.MULTILINE)
    assert makefile == dockerfile


def test_the_image_holds_no_more_than_is_run() -> None:
    """The rest is neither copied nor sent to the builder."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    assert {f"!{name}" for name in copied} == {name for name in ignored if name.startswith("!")}


def test_the_user_of_the_image_has_a_group_with_a_name() -> None:
    """Celery takes a group without one for a superuser's, and each worker would warn."""
    [uid, gid] = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]
    assert f"groupadd --gid {gid} " in DOCKERFILE
    assert f"useradd --uid {uid} --gid {gid} " in DOCKERFILE


def test_the_image_has_the_labels_of_oci() -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", DOCKERFILE))
    assert {"title", "description", "licenses", "version", "revision"} <= labels


def test_the_charts_sizes_are_of_queues_that_exist() -> None:
    sizing = json.loads((CHART / "files" / "sizing.json").read_text())
    assert set(sizing) <= {queue.name for queue in QUEUES}
    schema = json.loads((CHART / "values.schema.json").read_text())
    for sizes in sizing.values():
        assert set(sizes) <= set(schema["definitions"]["worker"]["properties"])
