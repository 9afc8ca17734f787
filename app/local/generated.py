"""Files that are generated from code. ``make update`` writes them, and ``make verify`` fails if one is stale."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.local.dashboard import dashboard_json
from app.local.up import worker
from app.queues import QUEUES
from pressroom.queues import Queue, rows

PROJECT = Path(__file__).resolve().parent.parent.parent


def queues_json() -> str:
    """Return the table of queues for the templates of the chart."""
    return json.dumps(rows(QUEUES), indent=2) + "\n"


def compose() -> str:
    """Return the compose file with a worker for each queue. The rest is written by hand."""
    workers = "".join(f"  worker-{queue.name}:\n    <<: *app\n    command: {_command(queue)}\n" for queue in QUEUES)
    text = (PROJECT / COMPOSE).read_text()
    return re.sub(r"(?:^  worker-.+:\n(?:    .+\n)+)+", lambda _: workers, text, count=1, flags=re.MULTILINE)


def _command(queue: Queue) -> str:
    return " ".join(["celery", *worker(queue)[3:]])


def values_schema() -> str:
    """Return the chart's schema with the settings of pods in every component. The rest is written by hand.

    They are written once, in ``definitions``.
    """
    schema = json.loads((PROJECT / VALUES_SCHEMA).read_text())
    properties, definitions = schema["properties"], schema["definitions"]
    for component in (definitions["worker"], *(properties[name] for name in ("global", *COMPONENTS))):
        component["properties"] |= _pod_settings(definitions)
    return json.dumps(schema, indent=2) + "\n"


def subchart_schema(name: str) -> Callable[[], str]:
    """Return a function that returns a subchart's schema with the settings of pods and the definitions of the chart."""

    def content() -> str:
        schema = json.loads((PROJECT / _schema_of(name)).read_text())
        definitions = json.loads((PROJECT / VALUES_SCHEMA).read_text())["definitions"]
        schema["definitions"] = {key: definitions[key] for key in definitions if key not in ("env", "worker", "queue")}
        schema["properties"] |= _pod_settings(definitions)
        return json.dumps(schema, indent=2) + "\n"

    return content


def _schema_of(subchart: str) -> str:
    return f"{CHART_FOLDER}/charts/{subchart}/values.schema.json"


def _pod_settings(definitions: dict[str, Any]) -> dict[str, Any]:
    return {name: {"$ref": f"#/definitions/pod/properties/{name}"} for name in definitions["pod"]["properties"]}


def values() -> str:
    """Return the chart's values with its version, by which it knows the values of another version."""
    return re.sub(r"^  chartVersion: .*$", f"  chartVersion: {_version()}", _text(VALUES), flags=re.MULTILINE)


def chart() -> str:
    """Return Chart.yaml with the project's version as the version of the chart and the tag of its image."""
    text = re.sub(r"^version: .*$", f"version: {_version()}", _text(CHART), flags=re.MULTILINE)
    return re.sub(r"^appVersion: .*$", f'appVersion: "{_version()}"', text, flags=re.MULTILINE)


def _version() -> str:
    return str(tomllib.loads(_text("pyproject.toml"))["project"]["version"])


def _text(name: str) -> str:
    return (PROJECT / name).read_text()


COMPOSE = "compose.yaml"
CHART_FOLDER = "deploy/helm/pressroom"
VALUES = f"{CHART_FOLDER}/values.yaml"
VALUES_SCHEMA = f"{CHART_FOLDER}/values.schema.json"
CHART = f"{CHART_FOLDER}/Chart.yaml"
COMPONENTS = ("web", "beat", "relay", "exporter", "migrate", "test", "idleFirst", "celeryExporter")
"""The sections of the values, beside those of workers and subcharts, that describe pods."""
SUBCHARTS = ("redis", "postgres")


class NotBuilt(Exception):
    """A tool is not built, for example because Go is not installed."""


def tool(name: str, *arguments: str) -> str:
    """Run one of the Makefile's tools and return its output. Raises NotBuilt."""
    variable = name.upper().replace("-", "_")
    [version] = re.findall(rf"^{variable}_VERSION := (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    binary = PROJECT / ".tools" / f"{name}-{version}" / name
    if not binary.exists():
        raise NotBuilt(name)
    return subprocess.run([str(binary), *arguments], cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def manifests(*arguments: str) -> Callable[[], str]:
    """Return a function that renders the chart for kustomize."""
    chart = ["template", "pressroom", "deploy/helm/pressroom", "-n", "pressroom", "-f", f"{KUSTOMIZE}/values.yaml"]
    return lambda: tool("helm", *chart, "--skip-tests", *arguments)


def kustomize_base() -> str:
    """Return the chart's manifests without the ConfigMap, which the base generates from `kustomize_config`."""
    return "---".join(part for part in manifests()().split("---") if f"Source: pressroom/{CONFIG}" not in part)


def kustomize_config() -> str:
    """Return the data of the chart's ConfigMap as ``NAME=value`` lines."""
    text = manifests(f"--show-only={CONFIG}")()
    return "".join(
        f"{name}={json.loads(value)}\n" for name, value in re.findall(r"^  ([A-Z_]+): (.+)$", text, re.MULTILINE)
    )


def chart_readme() -> str:
    """Return the chart's README, which helm-docs generates from the comments in the values."""
    return tool(
        "helm-docs",
        "--chart-search-root=deploy/helm/pressroom",
        "--chart-to-generate=deploy/helm/pressroom",
        "--dry-run",
    )


KUSTOMIZE = "deploy/kustomize"
CONFIG = "templates/config.yaml"
FILES: dict[str, Callable[[], str]] = {
    "deploy/helm/pressroom/files/queues.json": queues_json,
    "deploy/helm/pressroom/files/dashboard.json": dashboard_json,
    COMPOSE: compose,
    VALUES: values,
    VALUES_SCHEMA: values_schema,
    **{_schema_of(name): subchart_schema(name) for name in SUBCHARTS},
    CHART: chart,
    "deploy/helm/pressroom/README.md": chart_readme,
    f"{KUSTOMIZE}/base/pressroom.yaml": kustomize_base,
    f"{KUSTOMIZE}/base/config.env": kustomize_config,
    f"{KUSTOMIZE}/components/autoscaling/scaledobjects.yaml": manifests(
        "--set=autoscaling.provider=keda", "--show-only=templates/autoscaling.yaml"
    ),
    f"{KUSTOMIZE}/components/monitoring/monitoring.yaml": manifests(
        "--set=metrics.podMonitor=true,metrics.prometheusRule=true,metrics.dashboard=true",
        "--show-only=templates/monitoring.yaml",
    ),
}


def fresh(project: Path = PROJECT) -> Iterator[tuple[Path, str]]:
    """Yield each stale file with its fresh content. Some files are generated from files before them in FILES."""
    missing = set()
    for name, content in FILES.items():
        try:
            text = content()
        except NotBuilt as error:
            missing.add(str(error))
            continue
        path = project / name
        if not path.exists() or path.read_text() != text:
            yield path, text
    if missing:
        print(f"not built: {', '.join(sorted(missing))}; files that need them were left unchanged", file=sys.stderr)


def stale(project: Path = PROJECT) -> list[str]:
    """Return the names of the stale files."""
    return [str(path.relative_to(project)) for path, _ in fresh(project)]


def write(project: Path = PROJECT) -> None:
    for path, text in fresh(project):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"written: {path.relative_to(project)}")


def main(what: str) -> int:
    if what == "write":
        write()
        return 0
    for name in (names := stale()):
        print(f"stale: {name}; run `make update` and commit it", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
