"""The judge: reads what the tasks noted, knows when their processes were killed, and asks no ledger."""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable

AT_ONCE = 2
"""Runs at once of a key."""
QUEUE, QUEUE_AT_ONCE = "default", 6
"""The queue of all runs, and how many of them at once: fewer than its workers have slots."""
STARTS, PERIOD = 10, 5.0
"""Starts of a key in so many seconds."""
RATE = f"{STARTS}/5s"
SLACK = 0.5
"""Seconds by which a window may be shorter than the period: a start is the claim, and the body begins later."""
UNFAIR = 5.0
"""The mean wait of a key with the usual number of calls may be so many times that of all of them, and a second."""


@dataclasses.dataclass(frozen=True)
class Span:
    """A body that was executed, or a part of it."""

    kind: str
    key: str
    number: int
    begin: float
    end: float
    is_whole: bool


@dataclasses.dataclass
class Verdict:
    """What the judge has found."""

    at_once: int
    """The most runs at once of a key."""
    of_queue: int
    """The most runs at once of all."""
    shortest: float
    """The shortest time in which more runs of a key began than the rate allows; infinite if there are too few."""
    missing: int
    """Calls that were not executed to the end."""
    lost: int
    """Bodies that ended with their process."""
    waits: dict[str, float]
    """The mean wait of each key with the usual number of calls, in seconds."""

    @property
    def is_fair(self) -> bool:
        return not self.waits or max(self.waits.values()) <= UNFAIR * statistics.mean(self.waits.values()) + 1

    @property
    def is_clean(self) -> bool:
        return (
            self.at_once <= AT_ONCE
            and self.of_queue <= QUEUE_AT_ONCE
            and self.shortest >= PERIOD - SLACK
            and not self.missing
            and self.is_fair
        )

    def __str__(self) -> str:
        waits = sorted(self.waits.values()) or [0.0]
        return (
            f"at most {self.at_once} at once of a key (limit {AT_ONCE}) and {self.of_queue} of the queue (limit "
            f"{QUEUE_AT_ONCE}); {STARTS + 1} starts of a key took at least {self.shortest:.2f} s (limit "
            f"{PERIOD - SLACK:g} s); {self.missing} calls missing, {self.lost} bodies lost with their worker; mean "
            f"wait of a key {waits[0]:.2f} s to {waits[-1]:.2f} s"
        )


def spans(noted: Iterable[str], killed: dict[int, float]) -> list[Span]:
    """Return what was executed. ``killed`` holds when each process was dead, whose body then has no end of its own."""
    begun: dict[tuple[str, str, int, int], float] = {}
    found = []
    for line in noted:
        at, word, kind, key, number, pid = line.split()
        call = (kind, key, int(number), int(pid))
        if word == "begins":
            begun[call] = float(at)
        else:
            found.append(Span(kind, key, int(number), begun.pop(call), float(at), True))
    for (kind, key, of_call, of_process), begin in begun.items():
        found.append(Span(kind, key, of_call, begin, killed.get(of_process, float("inf")), False))
    return found


def most_at_once(executed: Iterable[Span]) -> int:
    """Return how many of the spans overlap at most."""
    steps = sorted(step for one in executed for step in ((one.begin, 1), (one.end, -1)))
    running = most = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def shortest_window(executed: Iterable[Span]) -> float:
    """Return the shortest time in which more spans began than the rate allows."""
    begins = sorted(one.begin for one in executed)
    return min((late - early for early, late in zip(begins, begins[STARTS:], strict=False)), default=float("inf"))


def judge(called: dict[tuple[str, str, int], float], executed: list[Span], usual: set[str]) -> Verdict:
    """Judge a run. ``called`` holds when each call was committed, and ``usual`` the keys with the usual calls."""
    by_key: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for one in executed:
        by_key[one.kind, one.key].append(one)
    first: dict[tuple[str, str, int], float] = {}
    for one in sorted(executed, key=lambda one: one.begin):
        first.setdefault((one.kind, one.key, one.number), one.begin)
    waits: dict[str, list[float]] = defaultdict(list)
    for call, at in called.items():
        kind, key, _ = call
        if kind == "at_once" and key in usual and call in first:
            waits[key].append(first[call] - at)
    done = {(one.kind, one.key, one.number) for one in executed if one.is_whole}
    return Verdict(
        at_once=max((most_at_once(found) for (kind, _), found in by_key.items() if kind == "at_once"), default=0),
        of_queue=most_at_once(executed),
        shortest=min(
            (shortest_window(found) for (kind, _), found in by_key.items() if kind == "rated"), default=float("inf")
        ),
        missing=len(called.keys() - done),
        lost=sum(not one.is_whole for one in executed),
        waits={key: statistics.mean(found) for key, found in waits.items()},
    )
