"""What requests and tasks saw of each failover."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tests.fault_injection.cluster.report import Row
from tests.support.notes import noted

COLUMNS = (
    "failover", "requests", "refused (503)", "failed", "longest without a success", "new primary after",
    "first task started after", "longest without a task started", "lost", "doubled", "doubled, outside",
    "all is well after",
)  # fmt: skip


@dataclasses.dataclass
class FailoverRow(Row):
    """A failover, and what became of what was called between it and the next. All times are in seconds."""

    switched: float = 0.0
    """When the Service led to the new primary; 0: no failover."""
    unserved: float = 0.0
    """The longest time without a request that succeeded."""
    first_start: float = 0.0
    """From the kill to the first task that began after the switch."""
    overdue: bool = False
    """Not all was well at the end of the recovery."""
    unstarted: float = 0.0
    """The longest time without a task that began."""


def measure(rows: Sequence[FailoverRow], folder: Path) -> None:
    """Fill in the times, from the books in ``folder``."""
    succeeded, requests = [], []
    for line in noted(folder / "requests"):
        at, taken, _, status = line.split()
        requests.append(float(at) + float(taken))
        if status.startswith("2"):
            succeeded.append(float(at) + float(taken))
    started = [float(line.split(" ", 1)[0]) for line in noted(folder / "working")]
    ends = [*(row.begin for row in rows[1:]), max(requests, default=rows[-1].begin)]
    for row, end in zip(rows, ends, strict=True):
        row.unserved = longest_gap(succeeded, row.begin, end)
        row.unstarted = longest_gap(started, row.begin, end)
        if row.switched:
            after = [at for at in started if at >= row.switched]
            row.first_start = min(after) - row.begin if after else float("inf")


def longest_gap(moments: Sequence[float], begin: float, end: float) -> float:
    """The longest time between ``begin`` and ``end`` in which none of the moments lies."""
    inside = [begin, *sorted(at for at in moments if begin < at < end), max(begin, end)]
    return max(after - before for before, after in pairwise(inside))


def table(rows: Sequence[FailoverRow]) -> str:
    """As Markdown."""
    cells = [COLUMNS, ("---",) * len(COLUMNS)]
    for row in rows:
        failed = ", ".join(f"{count} × {status}" for status, count in row.failed.items()) or "0"
        times = (f"{row.switched - row.begin:.1f} s", f"{row.first_start:.1f} s") if row.switched else ("", "")
        recovery = f"{'more than ' if row.overdue else ''}{row.recovery:.0f} s"
        cells.append((
            row.title, str(row.requests), str(row.refused), failed, f"{row.unserved:.1f} s", *times,
            f"{row.unstarted:.1f} s", str(row.lost), str(row.doubled), str(row.outside), recovery,
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
