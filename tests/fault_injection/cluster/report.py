"""What became of the requests and tasks, by the fault in whose time they were called."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fault_injection.local.tally import Tally
from tests.support.notes import noted

FIRST = ("effect", "chunk 0", "part 0", "part 1", "part 2", "part 3")
"""Parts of a call that wait for no other."""
TOLD = 2.0
"""Seconds until all who refused know that what was away is back: a Service is told, and web asks once a second."""
COLUMNS = (
    "fault", "requests", "refused (503)", "failed", "lost", "doubled", "doubled, outside", "longest start delay",
    "recovery", "alerts",
)  # fmt: skip


@dataclasses.dataclass
class Row:
    """A fault that was done, and what became of what was called between it and the next."""

    title: str
    begin: float
    needs: str
    said: str = ""
    recovery: float = 0.0
    """Seconds from its begin until every pod was ready, no task late and no request refused."""
    alerts: list[str] = dataclasses.field(default_factory=list)
    requests: int = 0
    refused: int = 0
    """With 503, while what they need was away."""
    failed: Counter[str] = dataclasses.field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    outside: int = 0
    """Of those doubled, effects outside of the database: the documented window."""
    delay: float = 0.0
    """Seconds from an acknowledgement to the first begin of its tasks, at most."""


def fill(rows: Sequence[Row], folder: Path, found: Tally) -> None:
    """Count in each row what the books in ``folder``, and the verdict on them, have of its time."""

    def row_of(at: float) -> Row:
        return next((row for row in reversed(rows) if row.begin <= at), rows[0])

    for line in noted(folder / "requests"):
        at, taken, _, status = line.split()
        row = row_of(float(at))
        row.requests += 1
        if status == "503" and row.needs and float(at) < row.begin + row.recovery + TOLD:
            row.refused += 1
            row.recovery = max(row.recovery, float(at) + float(taken) - row.begin)
        elif not status.startswith("2"):
            row.failed[status] += 1
    acknowledged = {call: float(at) for call, at in map(str.split, noted(folder / "acknowledged"))}
    for call in (entry.split()[0] for entry in found.missing):
        row_of(acknowledged[call]).lost += 1
    for call in (entry.split()[0] for entry in found.extra):
        row = row_of(acknowledged.get(call, rows[0].begin))
        if call.endswith("-outside"):
            row.outside += 1
        else:
            row.doubled += 1
    for call, seconds in _delays(folder, acknowledged):
        row = row_of(acknowledged[call])
        row.delay = max(row.delay, seconds)


def _delays(folder: Path, acknowledged: dict[str, float]) -> list[tuple[str, float]]:
    """Seconds from a call's acknowledgement to the first begin of each task that waited for no other."""
    begun: dict[tuple[str, str], float] = {}
    for line in noted(folder / "working"):
        at, _, _, call, part = line.split(" ", 4)
        if call in acknowledged and part in FIRST:
            begun.setdefault((call, part), float(at))
    return [(call, at - acknowledged[call]) for (call, _), at in begun.items()]


def table(rows: list[Row]) -> str:
    """As Markdown."""
    cells = [COLUMNS, ("---",) * len(COLUMNS)]
    cells += [
        (
            f"{row.title}: {row.said}" if row.said else row.title, row.requests, row.refused,
            ", ".join(f"{count} × {status}" for status, count in row.failed.items()) or 0, row.lost, row.doubled,
            row.outside, f"{row.delay:.1f} s", f"{row.recovery:.0f} s", ", ".join(row.alerts) or "none",
        )
        for row in rows
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in cells)
