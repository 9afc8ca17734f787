"""The verdict, from the caller's books and from the effects."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import psycopg

from tests.fault_injection.local.calls import PARTS, kind_of
from tests.support.notes import noted


@dataclasses.dataclass
class Line:
    """Tasks of one kind of call."""

    calls: int = 0
    acknowledged: int = 0
    executed: int = 0
    lost: int = 0
    doubled: int = 0


@dataclasses.dataclass
class Tally:
    """What the books say; see ``docs/test-results.md`` for each figure."""

    effects: int
    lines: dict[str, Line]
    unknown: int = 0
    """Calls whose acknowledgement never came."""
    in_part: list[str] = dataclasses.field(default_factory=list)
    """Those of them of which some tasks ran and others did not."""
    missing: list[str] = dataclasses.field(default_factory=list)
    extra: list[str] = dataclasses.field(default_factory=list)
    rekeyed: list[str] = dataclasses.field(default_factory=list)
    """Calls whose effect outside came twice with different keys."""
    wrong: list[str] = dataclasses.field(default_factory=list)
    """Effects that nobody asked for."""
    recovery: float = 0.0
    """Seconds from the first begin of a task to its effect, at most."""
    wait: float = 0.0
    """Seconds from an acknowledgement to the last effect of its call, at most."""
    median: float = 0.0
    """The same in the median."""
    stuck: str = ""
    """What was still waiting or running when nothing more came."""

    @property
    def lost(self) -> int:
        return sum(line.lost for line in self.lines.values())

    @property
    def doubled(self) -> int:
        """Effects in the database that are there more than once."""
        return sum(line.doubled for kind, line in self.lines.items() if kind != "outside")

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.in_part or self.rekeyed or self.wrong or self.stuck)

    def __str__(self) -> str:
        rows = [("kind of call", "calls", "acknowledged", "executed", "lost", "doubled")]
        rows += [(kind, *map(str, dataclasses.astuple(line))) for kind, line in self.lines.items() if line.calls]
        text = ["".join(f"{cell:>14}" for cell in row) for row in rows]
        text.append(
            f"not acknowledged: {self.unknown} calls, of which {len(self.in_part)} ran in part; "
            f"outside, doubled under another key: {len(self.rekeyed)}; effects nobody asked for: {len(self.wrong)}"
        )
        text += [
            f"{name}: {', '.join(found[:10])}{' …' if len(found) > 10 else ''}"
            for name in ("missing", "extra", "in_part", "rekeyed", "wrong")
            if (found := getattr(self, name))
        ]
        if self.stuck:
            text.append(f"stuck: {self.stuck}")
        text.append(
            f"from a task's first begin to its effect at most {self.recovery:.1f} s (the recovery); "
            f"from an acknowledgement to the last effect of its call at most {self.wait:.1f} s, "
            f"{self.median:.1f} s in the median"
        )
        text.append(f"lost {self.lost}, doubled {self.doubled} transactional, longest recovery {self.recovery:.0f} s")
        return "\n".join(text)


def tally(folder: Path, connection: psycopg.Connection) -> Tally:
    """Compare the calls in ``folder`` with their effects there and in the database."""
    acknowledged = {call: float(at) for call, at in (line.split() for line in noted(folder / "acknowledged"))}
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], float] = {}
    keys: dict[str, set[str]] = defaultdict(set)
    for call, part, count, at in connection.execute(
        "SELECT call, part, count(*), min(at) FROM oracle_effect GROUP BY call, part"
    ):
        counts[call, part], first[call, part] = count, at
    for line in noted(folder / "effects"):
        call, key, at = line.split()
        counts[call, "effect"] += 1
        keys[call].add(key)
        first[call, "effect"] = min(float(at), first.get((call, "effect"), float(at)))

    found = Tally(sum(counts.values()), {kind: Line() for kind in PARTS})
    waits = []
    for call in noted(folder / "called"):
        wanted = [(call, part) for part in PARTS[kind_of(call)]]
        missing = [effect for effect in wanted if effect not in first]
        line = found.lines[kind_of(call)]
        line.calls += 1
        if call in acknowledged:
            line.acknowledged += len(wanted)
            line.executed += len(wanted) - len(missing)
            line.lost += len(missing)
            found.missing += [f"{call} {part}" for _, part in missing]
            if not missing:
                waits.append(max(first[effect] for effect in wanted) - acknowledged[call])
        else:
            found.unknown += 1
            if missing and len(missing) < len(wanted):
                found.in_part.append(call)
        for effect in wanted:
            if (more := counts.pop(effect, 0) - 1) > 0:
                line.doubled += more
                found.extra.append(" ".join(effect))
    found.wrong = [" ".join(effect) for effect in counts]
    found.recovery = _longest_recovery(folder, first)
    found.rekeyed = [call for call, several in keys.items() if len(several) > 1]
    if waits:
        found.median, found.wait = statistics.median(waits), max(waits)
    return found


def _longest_recovery(folder: Path, first: dict[tuple[str, str], float]) -> float:
    begun: dict[tuple[str, str], float] = {}
    for line in noted(folder / "working"):
        at, _, _, call, part = line.split(" ", 4)
        begun.setdefault((call, part), float(at))
    return max((first[effect] - at for effect, at in begun.items() if effect in first), default=0.0)
