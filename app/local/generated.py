"""The files that are written from code: ``make update`` writes them, ``make verify`` fails on a stale one."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from app.queues import QUEUES

PROJECT = Path(__file__).resolve().parent.parent.parent


def queues_json() -> str:
    """The table of queues for the chart, whose templates range over it."""
    return json.dumps([dataclasses.asdict(queue) for queue in QUEUES], indent=2) + "\n"


FILES = {"deploy/helm/pressroom/files/queues.json": queues_json}


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
