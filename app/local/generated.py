"""The files that are written from code: ``make update`` writes them, ``make verify`` fails on a stale one."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tomllib
from pathlib import Path

from app.queues import QUEUES

PROJECT = Path(__file__).resolve().parent.parent.parent


def queues_json() -> str:
    """The table of queues for the chart, whose templates range over it."""
    return json.dumps([dataclasses.asdict(queue) for queue in QUEUES], indent=2) + "\n"


def values_schema() -> str:
    """The chart's schema, which knows the queues: a worker of any other is refused. The rest of it is written by hand."""
    schema = json.loads((PROJECT / VALUES_SCHEMA).read_text())
    schema["properties"]["workers"]["properties"] = {queue.name: {"$ref": "#/definitions/worker"} for queue in QUEUES}
    return json.dumps(schema, indent=2) + "\n"


def chart() -> str:
    """Chart.yaml with the project's version, as the chart's and as its image's tag."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    text = (PROJECT / CHART).read_text()
    text = re.sub(r"^version: .*$", f"version: {version}", text, flags=re.MULTILINE)
    return re.sub(r"^appVersion: .*$", f'appVersion: "{version}"', text, flags=re.MULTILINE)


VALUES_SCHEMA = "deploy/helm/pressroom/values.schema.json"
CHART = "deploy/helm/pressroom/Chart.yaml"
FILES = {
    "deploy/helm/pressroom/files/queues.json": queues_json,
    VALUES_SCHEMA: values_schema,
    CHART: chart,
}


def stale(project: Path = PROJECT) -> list[str]:
    """The files that are not as they would be written now."""
    return [
        name
        for name, content in FILES.items()
        if not (project / name).exists() or (project / name).read_text() != content()
    ]


def write(project: Path = PROJECT) -> None:
    for name in stale(project):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(FILES[name]())
        print(f"written: {name}")


def main(what: str) -> int:
    if what == "write":
        write()
        return 0
    for name in (names := stale()):
        print(f"stale: {name}; run `make update` and commit it", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
