"""The judge: reads what the callers and the tasks noted, and asks no ledger and no lock.

A run stands for other calls from the moment it is stored until it is free: when it starts (while waiting), when it has
ended (until done), or some seconds after it was stored. The judge knows none of these moments exactly. It knows between
which two of its notes each must lie, and blames only what no moment between them explains.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

WAITING, DONE, SECONDS = "while-waiting", "until-done", "seconds"
PERIOD = 5.0
"""Seconds for which a call of the last kind stands."""
SLACK = 0.05
"""Seconds by which a period may differ: Postgres measures it with another clock."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A call, with the seconds when it began, when it returned, and when its transaction had ended."""

    kind: str
    key: str
    began: float
    returned: float
    ended: float
    committed: bool
    id: str | None
    """The id that the caller got, or None if the library gives none for a repeated call."""


@dataclasses.dataclass(frozen=True)
class Body:
    """A task that was executed, with the seconds when its body began and ended."""

    kind: str
    key: str
    id: str
    began: float
    ended: float
    free_since: float
    """When the body before it in the same process had ended: the run cannot have been claimed earlier."""
    written_by: float = float("inf")
    """When the next body in the same process began: the end of the run had been written by then."""


@dataclasses.dataclass
class Verdict:
    """What the judge has found."""

    calls: int = 0
    """Those that were committed."""
    rolled_back: int = 0
    keys: int = 0
    periods: Counter[str] = dataclasses.field(default_factory=Counter)
    """By kind: how many different runs the callers got."""
    bodies: Counter[str] = dataclasses.field(default_factory=Counter)
    """By kind: how many bodies were executed."""
    twice: int = 0
    """Runs that were stored while another one of the key stood."""
    missing: int = 0
    """Committed calls of which no run came."""
    unwanted: int = 0
    """Bodies without a committed call."""
    doubled: int = 0
    """Runs that were executed more than once."""
    stale: Counter[str] = dataclasses.field(default_factory=Counter)
    """Of each kind: calls that were given a run which did not stand any more."""
    unnamed: int = 0
    """Committed calls whose caller was not told the id of the run."""
    early: int = 0
    """Runs while waiting that began before all calls that were given them had been committed. That is allowed."""

    @property
    def is_clean(self) -> bool:
        return bool(self.calls) and not (
            self.twice or self.missing or self.unwanted or self.doubled or self.stale.total()
        )  # fmt: skip

    def __str__(self) -> str:
        kinds = ", ".join(
            f"{self.bodies[kind]:,} runs in {self.periods[kind]:,} periods {kind.replace('-', ' ')}"
            for kind in (WAITING, DONE, SECONDS)
            if self.periods[kind] or self.bodies[kind]
        )
        return (
            f"exactly one run for each key and period: {'yes' if self.is_clean else 'no'}; {self.calls:,} calls for "
            f"{self.keys} keys committed, {self.rolled_back:,} rolled back; {kinds}; stored twice {self.twice}, calls "
            f"without a run {self.missing}, runs without a call {self.unwanted}, executed twice {self.doubled}, given "
            f"a run that was over {self.stale.total()}"
            + "".join(f", {count} of them {kind.replace('-', ' ')}" for kind, count in sorted((+self.stale).items()))
        )


def calls(noted: Iterable[str]) -> list[Call]:
    """Return the calls from the callers' notes."""
    found = []
    for line in noted:
        began, returned, ended, word, kind, key, given = line.split()
        told = None if given == "-" else given
        found.append(Call(kind, key, float(began), float(returned), float(ended), word == "committed", told))
    return found


def bodies(noted: Iterable[str]) -> list[Body]:
    """Return the bodies that came to their end from the tasks' notes."""
    begun: dict[tuple[str, ...], float] = {}
    free: dict[str, float] = {}
    last: dict[str, int] = {}
    found = []
    for line in noted:
        at, word, kind, key, task_id, pid = line.split()
        one = (kind, key, task_id, pid)
        if word == "begins":
            begun[one] = float(at)
            if pid in last:
                found[last[pid]] = dataclasses.replace(found[last[pid]], written_by=float(at))
        else:
            found.append(Body(kind, key, task_id, begun.pop(one), float(at), free.get(pid, 0.0)))
            free[pid], last[pid] = float(at), len(found) - 1
    return found


def judge(made: Iterable[Call], executed: Iterable[Body]) -> Verdict:
    """Judge a run."""
    verdict = Verdict()
    called: dict[tuple[str, str], list[Call]] = defaultdict(list)
    ran: dict[tuple[str, str], list[Body]] = defaultdict(list)
    for call in made:
        called[call.kind, call.key].append(call)
    for body in executed:
        ran[body.kind, body.key].append(body)
        verdict.bodies[body.kind] += 1
    verdict.keys = len(called)
    for kind, key in called.keys() | ran.keys():
        _judge_key(verdict, kind, called[kind, key], ran[kind, key])
    return verdict


def _judge_key(verdict: Verdict, kind: str, made: list[Call], executed: list[Body]) -> None:
    committed = [call for call in made if call.committed]
    verdict.calls += len(committed)
    verdict.rolled_back += len(made) - len(committed)
    verdict.unnamed += sum(call.id is None for call in committed)
    told = {call.id for call in committed} - {None}
    verdict.periods[kind] += len(told)
    by_id: dict[str, list[Body]] = defaultdict(list)
    for body in executed:
        by_id[body.id].append(body)
    verdict.unwanted += sum(body.id not in told for body in executed)
    verdict.doubled += sum(len(found) > 1 for found in by_id.values())
    begins = {call.id: _begin(by_id[call.id]) for call in committed if call.id in by_id}
    verdict.early += len({call.id for call in committed if kind == WAITING and call.ended > begins.get(call.id, 1e99)})
    stored: dict[str, tuple[float, float]] = {}
    for call in made:
        # A run was stored after the first call that was given it had begun, and before any of them returned.
        if call.id is not None and (call.committed or call.id in by_id):
            after, before = stored.get(call.id, (call.began, call.returned))
            stored[call.id] = min(after, call.began), min(before, call.returned)
    verdict.twice += sum(_twice(kind, stored, by_id))
    for call in committed:
        if call.id is None:
            verdict.missing += not any(_stands(kind, call, body) for body in executed)
        elif call.id not in by_id:
            verdict.missing += 1
        else:
            over = stored[call.id][1] + PERIOD + SLACK < call.began if kind == SECONDS else False
            verdict.stale[kind] += over or not any(_stands(kind, call, body) for body in by_id[call.id])


def _begin(found: list[Body]) -> float:
    return min(body.began for body in found)


def _stands(kind: str, call: Call, body: Body) -> bool:
    """Return whether the body's run may have stood when the call was made."""
    if kind == WAITING:
        return body.began > call.began
    return kind == SECONDS or body.written_by > call.began


def _twice(kind: str, stored: dict[str, tuple[float, float]], by_id: dict[str, list[Body]]) -> Iterator[bool]:
    """Yield for each run but the first whether it was stored while the run before it certainly stood."""
    order = sorted(stored, key=lambda one: stored[one][1])
    for first, second in itertools.pairwise(order):
        latest = stored[second][1]
        if kind == SECONDS:
            yield latest < stored[first][0] + PERIOD - SLACK
        elif first in by_id:
            yield latest < min(body.ended if kind == DONE else body.free_since for body in by_id[first])
