"""The verdict, from the caller's books, the effects, the ledger's rows and what the watch saw."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from tests.odd.book import Book, Case, Plain, Record
from tests.odd.kinds import KINDS, Expected, Run
from tests.odd.kinds.redis_side import BROKEN_QUEUE
from tests.odd.stack import SCHEDULES, Stack

LONGEST_DELAY = 2.0
"""Seconds that an odd call may delay the start of a plain one, over what the machine does without odd ones."""
LONGEST_GAP = 15.0
"""Seconds between two calls of a schedule of every second: beat reads odd ones anew after every change."""
RUNS = """
SELECT id::text, celery_id, name, queue, status, error_type, error, attempt, losses,
    run_at > clock_timestamp() + interval '60 s', created_at > clock_timestamp() - interval '10 s'
FROM taskruns_taskrun
"""
LIVE = ("queued", "retrying", "running")
MEANWHILE = """
SELECT coalesce(string_agg(told, '; '), 'nothing ran') FROM (
    SELECT format('%%s × %%s, %%s s at most, attempt %%s, losses %%s', count(*), left(name, 40),
        round(max(extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)), 1), max(attempt),
        max(losses)) AS told
    FROM taskruns_taskrun
    WHERE started_at < to_timestamp(%(end)s) AND coalesce(finished_at, clock_timestamp()) > to_timestamp(%(begin)s)
    GROUP BY name ORDER BY max(coalesce(finished_at, clock_timestamp()) - started_at) DESC LIMIT 5
) AS longest
"""
"""What ran between two times."""
LATE_RUN = """
SELECT id::text, format('called %%s, started %%s, attempt %%s, losses %%s, worker %%s', created_at::time,
    started_at::time, attempt, losses, worker_id)
FROM taskruns_taskrun WHERE celery_id = %s
"""
"""What the ledger has of a plain call."""


@dataclasses.dataclass
class Waits:
    """Seconds from the acknowledgement of plain calls to the start of their tasks."""

    seconds: list[float]

    def at(self, share: float) -> float:
        """A quantile."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))] if self.seconds else 0.0

    def __str__(self) -> str:
        return f"{self.at(0.5):.2f} s in the median, 99 % {self.at(0.99):.2f} s, at most {self.at(1):.2f} s"


class Verdict:
    """All that is wrong, and the counts."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.by_kind: dict[str, Counter[str]] = defaultdict(Counter)
        self.plain = 0
        self.beside, self.alone = Waits([]), Waits([])

    @property
    def clean(self) -> bool:
        return not self.findings

    def counts(self) -> str:
        rows = [f"{'kind':>18}{'calls':>8}{'refused':>9}{'done':>8}{'dead':>8}{'other':>8}{'later':>8}{'findings':>10}"]
        columns = ("calls", "refused", "succeeded", "dead", "other", "later", "findings")
        widths = (8, 9, 8, 8, 8, 8, 10)
        for name, count in sorted(self.by_kind.items()):
            cells = "".join(f"{count[column]:>{width}}" for column, width in zip(columns, widths, strict=True))
            rows.append(f"{name:>18}{cells}")
        return "\n".join(rows)


def judge(stack: Stack, cases: list[Case], ended: bool) -> Verdict:
    """Look at everything. ``ended``: whether nothing was left that could run."""
    verdict, book = Verdict(), Book(stack.folder)
    records = {record.number: record for record in book.records()}
    with stack.connect() as connection:
        runs = [Run(*row) for row in connection.execute(RUNS).fetchall()]
        effects: dict[tuple[str, str], list[float]] = defaultdict(list)
        for call, part, at in connection.execute("SELECT call, part, at FROM odd_effect ORDER BY at").fetchall():
            effects[call, part].append(at)
        schedules = _schedules(connection)
        _judge_plain(verdict, book.plain(), effects, partial(_late_run, stack, connection))
    by_id: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_id[run.celery_id].append(run)
    odd_live = set()
    for case in cases:
        if (record := records.get(case.number)) is None:
            continue
        mine = [run for celery_id in dict.fromkeys(record.ids) for run in by_id[celery_id]]
        odd_live |= {run.run_id for run in mine}
        count = verdict.by_kind[case.kind]
        found = _judge_case(case, record, mine, effects, count)
        count["calls"] += 1
        count["findings"] += bool(found)
        for text in found:
            logs = stack.lines_about(*(run.run_id for run in mine), *filter(None, (i[:36] for i in record.ids)))
            verdict.findings.append("\n    ".join([f"{case}", text, *map(str, mine[:4]), *logs]))
    _judge_live(stack, verdict, [run for run in runs if run.status in LIVE and run.run_id not in odd_live], ended)
    _judge_schedules(verdict, effects, schedules)
    return verdict


def _judge_case(
    case: Case, record: Record, runs: list[Run], effects: dict[tuple[str, str], list[float]], count: Counter[str]
) -> list[str]:
    kind = KINDS[case.kind]
    expected = kind.expected(case)
    found = [*record.notes]
    if record.outcome == "broke":
        count["broke"] += 1
        return [*found, f"the caller's transaction was lost: {record.error[0]}: {record.text[:500]!a}"]
    if record.outcome == "refused":
        count["refused"] += 1
        told = f"{record.error[0]}: {record.text[:300]!a}"
        if expected.refused is False:
            found.append(f"refused, though nothing is wrong with it: {told}")
        if runs:
            found.append(f"refused ({told}), but there are runs of it")
    elif expected.refused:
        found.append("accepted, and should be refused")
    if case.mode != "outside" and len(effects[case.call, "work"]) != 1:
        found.append(f"the caller's own work in its transaction is there {len(effects[case.call, 'work'])} times")
    for run in runs:
        found += _judge_run(expected, run, count)
    if expected.effect and record.outcome == "accepted":
        found += _judge_effect(case, runs, effects)
    return [*found, *kind.found(case, record, runs)]


def _judge_run(expected: Expected, run: Run, count: Counter[str]) -> list[str]:
    if run.status in LIVE:
        if run.status == "queued" and run.waits_for_later and expected.later:
            count["later"] += 1
            return []
        return [f"it has not ended: {run.status}"]
    count[run.status if run.status in ("succeeded", "dead") else "other"] += 1
    if run.status not in expected.ends:
        return [f"it ended as {run.status}, not as {' or '.join(expected.ends)}"]
    told = f"{run.error_type}: {run.error}"
    if run.status == "dead" and not re.search(expected.error, told):
        return [f"dead, but not with its true error, which is like {expected.error!r}"]
    return []


def _judge_effect(case: Case, runs: list[Run], effects: dict[tuple[str, str], list[float]]) -> list[str]:
    done, undone = len(effects[case.call, "odd"]), len(effects[case.call, "undone"])
    found = [f"{undone} effects of an attempt that was undone"] if undone else []
    if len(runs) == 1 and runs[0].status not in LIVE:
        wanted = int(runs[0].status == "succeeded")
        if done != wanted:
            found.append(f"{runs[0].status} with {done} effects, not {wanted}")
    return found


def _judge_live(stack: Stack, verdict: Verdict, live: list[Run], ended: bool) -> None:
    """Runs that the odd calls' tasks made."""
    by_name: dict[str, list[Run]] = defaultdict(list)
    for run in live:
        # Beat may still have called what has just been switched off.
        if not run.waits_for_later and not run.is_new:
            by_name[run.name].append(run)
    for name, runs in by_name.items():
        logs = stack.lines_about(runs[0].run_id, runs[0].celery_id[:36] or runs[0].run_id)
        text = f"{len(runs)} runs of {name} have not ended, such as {runs[0]} of {runs[0].celery_id[:60]!a}"
        verdict.findings.append("\n    ".join([text, *logs]))
    if not ended:
        verdict.findings.append(f"it does not come to an end; messages in Redis: {stack.waiting()}")


def _judge_plain(
    verdict: Verdict, plain: list[Plain], effects: dict[tuple[str, str], list[float]], late_run: Callable[..., str]
) -> None:
    """Each done once; and none began much later than those that had no odd ones beside them."""
    verdict.plain = len(plain)
    late: list[tuple[float, Plain]] = []
    beside: list[float] = []
    alone: dict[str, list[float]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    for entry in plain:
        at = effects[entry.call, entry.part]
        if len(at) != 1:
            wrong["were not done" if not at else "were done more than once"].append(f"{entry.call} {entry.part}")
            continue
        if entry.queue == BROKEN_QUEUE:
            continue
        wait = max(0.0, at[0] - entry.at)
        if entry.beside:
            beside.append(wait)
            late.append((wait, entry))
        else:
            alone[entry.call.rpartition("-")[0]].append(wait)
    for said, calls in wrong.items():
        verdict.findings.append(f"{len(calls)} of {len(plain)} plain calls {said}: {', '.join(calls[:12])}")
    verdict.beside, verdict.alone = Waits(beside), Waits([wait for waits in alone.values() for wait in waits])
    # The longest of each time that they were alone, of which the median: odd ones may have left work behind.
    usual = statistics.median(map(max, alone.values())) if alone else 0.0
    # Odd calls are work, too: a machine that is slow for plain ones alone is slower still with both.
    allowed = LONGEST_DELAY + 3 * usual
    too_late = sorted((pair for pair in late if pair[0] > allowed), key=lambda pair: -pair[0])
    if too_late:
        first = "".join(
            f"\n    {wait:.1f} s {entry.call} {entry.part} on {entry.queue}, called at {entry.at:.1f}; "
            + late_run(entry, wait)
            for wait, entry in too_late[:8]
        )
        verdict.findings.append(
            f"{len(too_late)} plain calls began more than {allowed:.1f} s after they were called, without odd ones it "
            f"takes at most {usual:.2f} s: {first}"
        )


def _late_run(stack: Stack, connection: psycopg.Connection, entry: Plain, wait: float) -> str:
    """What the ledger and the logs tell of a plain call that came late."""
    between = {"begin": entry.at, "end": entry.at + wait}
    [(meanwhile,)] = connection.execute(MEANWHILE, between).fetchall()
    told = [f"meanwhile {meanwhile}"]
    for run_id, times in connection.execute(LATE_RUN, [entry.id]):
        told += [times, *stack.lines_about(run_id)]
    return "\n        ".join(told)


def _schedules(connection: psycopg.Connection) -> dict[str, Any]:
    """When beat was ready for them, by the first row of each."""
    return dict(
        connection.execute(
            """
            SELECT name, extract(epoch FROM max(at))::float8 FROM taskruns_tick WHERE name = 'beat' GROUP BY name
            """
        ).fetchall()
    )


def _judge_schedules(verdict: Verdict, effects: dict[tuple[str, str], list[float]], schedules: dict[str, Any]) -> None:
    end = max((at for times in effects.values() for at in times), default=0.0)
    for name in SCHEDULES:
        times = effects["ticks", name]
        gaps = (
            [after - before for before, after in zip(times, [*times[1:], max(end, times[-1])], strict=True)]
            if times
            else []
        )
        if not times:
            verdict.findings.append(f"the schedule {name!r} of every second never fired")
        elif max(gaps) > LONGEST_GAP:
            verdict.findings.append(
                f"the schedule {name!r} of every second fired {len(times)} times, and not for {max(gaps):.1f} s"
            )
