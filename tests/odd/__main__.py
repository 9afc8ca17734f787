"""The command line: one run, or a run for each guard switched off, which must be noticed."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app.local.servers import data_folder
from tests.odd.book import Book, Case
from tests.odd.cases import cases, draw
from tests.odd.judge import Verdict, judge
from tests.odd.kinds import load
from tests.odd.kinds.schedules import code_entry
from tests.odd.stack import Stack, Watch
from tests.support.notes import noted

CALLS, SHORT_CALLS, MUTATION_CALLS = 2_000, 90, 24
CALLERS = 2
ROUND, ALONE = 60, 20
"""Odd calls of a round, and plain calls alone that each third round is followed by."""
IN_CODE, CODE_SCHEDULES = "schedule-code", 40
"""Odd entries of ``beat_schedule``, which beat reads as it starts; no calls, but named among the kinds."""
LONGEST_ROUND, LONGEST_SETTLING, SHORT_SETTLING = 600.0, 120.0, 30.0
"""Seconds: guards against hanging. What has not ended after the second, in a short run the third, is a finding."""
MUTATIONS = {
    "without_isolation": ["large-argument", "message", "wrong-type"],
    "without_dispatch_counter": ["large-argument", "message"],
}
"""By the module of tests.support.probes that puts the guard out: the kinds of calls that it is there for."""


class Caller:
    """A process that calls; where it ends by itself, that is a finding, and another goes on."""

    def __init__(self, stack: Stack, number: int) -> None:
        self.stack, self.number = stack, number
        self.starts = 0
        self.start()

    def start(self) -> None:
        log = (self.stack.folder / f"caller-{self.number}.{self.starts}.log").open("wb")
        self.starts += 1
        with log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tests.odd.caller", str(self.stack.folder)],
                env={**os.environ, **self.stack.environment, "PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        assert self.popen.stdout is not None
        os.set_blocking(self.popen.stdout.fileno(), False)

    def tell(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{line}\n")
        self.popen.stdin.flush()

    def said(self) -> str:
        assert self.popen.stdout is not None
        return (self.popen.stdout.readline() or "").strip()

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()


class Session:
    """A run under way."""

    def __init__(self, stack: Stack, all_cases: list[Case]) -> None:
        self.stack, self.cases = stack, all_cases
        self.begin = time.monotonic()
        self.findings: list[str] = []
        self.watch = Watch(stack)
        self.callers = [Caller(stack, number) for number in range(CALLERS)]

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begin:7.1f} s  {text}", flush=True)

    def wait(self, caller: Caller, word: str, during: str) -> bool:
        """Until it says so. False where it ended instead: it is started again."""
        deadline = time.monotonic() + LONGEST_ROUND
        while (said := caller.said()) != word:
            if said:
                print(said, flush=True)
            self.watch.look(during)
            if caller.popen.poll() is not None:
                begun = noted(self.stack.folder / "begun")
                self.findings.append(
                    f"a caller ended with {caller.popen.returncode} {during}; begun last: {begun[-3:]}"
                )
                caller.start()
                self.wait(caller, "ready", during)
                return False
            assert time.monotonic() < deadline, (
                f"the caller does not come back {during}: {noted(self.stack.folder / 'begun')[-3:]}"
            )
            time.sleep(0.02)
        return True

    def ready(self) -> None:
        for caller in self.callers:
            self.wait(caller, "ready", "at the start")
        assert self.stack.beat.process is not None
        self.stack.beat.process.wait_for(self.stack.beat.ready_text)

    def alone(self, name: str) -> None:
        self.callers[0].tell(f"alone {name} {ALONE}")
        self.wait(self.callers[0], "done", f"while plain calls were alone ({name})")

    def odd(self, begin: int, end: int) -> None:
        during = f"in the round of cases {begin} to {end - 1}"
        for number, caller in enumerate(self.callers):
            caller.tell(f"odd {begin + number} {end} {CALLERS}")
        for caller in self.callers:
            self.wait(caller, "done", during)

    def settle(self, bound: float, age: float = 3.0) -> bool:
        """Until nothing is left that could run now and was called at least ``age`` seconds ago."""
        deadline = time.monotonic() + bound
        with self.stack.connect() as connection:
            while time.monotonic() < deadline:
                self.watch.look("while it settled")
                left = connection.execute(
                    """
                    SELECT count(*) FROM taskruns_taskrun WHERE status IN ('queued', 'retrying', 'running')
                      AND run_at < clock_timestamp() + interval '60 s' AND name <> 'odd.plain'
                      AND created_at < clock_timestamp() - make_interval(secs => %s)
                    """,
                    [age],
                ).fetchone()
                assert left is not None
                if not left[0] and not sum(self.stack.waiting().values()):
                    return True
                time.sleep(0.1)
        return False

    def run(self, settling: float) -> bool:
        """All calls, and until all has ended; False where it has not."""
        self.ready()
        self.say("everything is up")
        self.alone("first")
        for number, begin in enumerate(range(0, len(self.cases), ROUND), 1):
            self.odd(begin, min(begin + ROUND, len(self.cases)))
            if number % 3 == 0:
                self.settle(15.0)
                self.alone(f"after-{number}")
                self.say(f"{min(begin + ROUND, len(self.cases))} of {len(self.cases)} odd calls made")
        self.say("that was the last call")
        self._stop_schedules()
        if not self.settle(settling, age=0.0):
            return False
        self.alone("last")
        return self.settle(15.0)

    def _stop_schedules(self) -> None:
        """Odd ones: they would go on for ever."""
        with self.stack.connect() as connection:
            connection.execute(
                "UPDATE django_celery_beat_periodictask SET enabled = false WHERE NOT name LIKE 'plain in%'"
            )
            connection.execute("UPDATE django_celery_beat_periodictasks SET last_update = now()")

    def end(self) -> None:
        for caller in self.callers:
            caller.end()
        self.watch.close()


def run(seed: str, count: int, only: list[str], short: bool, probe: str = "") -> Verdict:
    """One run from an empty database to the verdict. Raises AssertionError where it does not come to one."""
    folder = Path(tempfile.mkdtemp(prefix="pressroom-odd-"))
    data = data_folder(folder)
    all_cases = cases(seed, count, only)
    code = draw(code_entry(), f"{seed} code", CODE_SCHEDULES) if not only or IN_CODE in only else []
    stack = Stack(folder, data, probe, code)
    book = Book(folder)
    for case in all_cases:
        book.write("cases", case)
    print(f"seed {seed}: {count} odd calls, {len(code)} odd schedules in the code; logs in {folder}", flush=True)
    session: Session | None = None
    try:
        stack.start()
        session = Session(stack, all_cases)
        ended = session.run(SHORT_SETTLING if short else LONGEST_SETTLING)
        found = judge(stack, all_cases, ended)
        found.findings = [*session.watch.findings, *session.findings, *found.findings]
    finally:
        if session is not None:
            session.end()
        stack.end()
        shutil.rmtree(data, ignore_errors=True)
        if "ODD_KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def shown(text: str) -> str:
    """No line longer than a screen or two."""
    return "\n".join(line if len(line) <= 500 else f"{line[:400]} … {line[-90:]}" for line in text.splitlines())


def _grouped(findings: list[str]) -> list[list[str]]:
    """Those that say the same of different cases, together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for text in findings:
        lines = text.splitlines()
        kind = lines[0].split(",")[1] if lines[0].startswith("case ") else lines[0][:40]
        about = lines[1:2] + [line for line in lines if re.match(r"[\w.]+(Error|NotFound|Exception)\b", line)][-1:]
        key = (kind, *(re.sub(r"[0-9a-f]{8}-[0-9a-f-]+|\d+|'.*'|\".*\"", "", line) for line in about))
        groups.setdefault(key, []).append(text)
    return list(groups.values())


def tell(found: Verdict, seed: str, count: int, only: list[str]) -> None:
    """Print it; the last line has the counts."""
    again = f"make odd N={count} SEED={seed}" + (f" KINDS={','.join(only)}" if only else "")
    for number, alike in enumerate(_grouped(found.findings), 1):
        print(f"finding {number}: {shown(alike[0])}\n")
        if len(alike) > 1:
            others = ", ".join(text.split(",")[0].split("\n")[0][:80] for text in alike[1:13])
            print(f"    {len(alike) - 1} more like it: {others}\n")
    print(found.counts())
    print(f"plain calls alone began after {found.alone}; beside odd ones after {found.beside}")
    if found.findings:
        print(f"again: {again}")
    total: dict[str, int] = {}
    for counts in found.by_kind.values():
        for name, value in counts.items():
            total[name] = total.get(name, 0) + value
    ends = ", ".join(
        f"{total.get(name, 0)} {said}"
        for name, said in {
            "refused": "refused at the call", "succeeded": "runs done", "dead": "dead with their error",
            "other": "ended otherwise", "later": "waiting for their time",
        }.items()
    )  # fmt: skip
    print(
        f"{total.get('calls', 0)} odd calls of {len(found.by_kind)} kinds ({ends}) among {found.plain} plain ones; "
        f"{len(found.findings)} findings"
    )


def main() -> int:
    """0 where nothing was found; for the mutations, where each was noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.odd", description=__doc__)
    parser.add_argument("system", choices=["ours", "mutations", *MUTATIONS], nargs="?", default="ours")
    parser.add_argument("--calls", type=int, help=f"odd calls; {CALLS} unless given")
    parser.add_argument("--seed", default="", help="of all that is drawn; printed, chosen where none is given")
    parser.add_argument("--kinds", default="", help="only these, with commas between them")
    parser.add_argument("--without", default="", help="all kinds but these")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_CALLS} odd calls")
    given = parser.parse_args()
    # As Ctrl-C does: nothing that was started stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    seed = given.seed or secrets.token_hex(4)
    short = given.short or given.system != "ours"
    usual = MUTATION_CALLS if given.system != "ours" else SHORT_CALLS if short else CALLS
    count = given.calls or usual
    names = [*load(), IN_CODE]
    only = [name for name in given.kinds.split(",") if name]
    if without := [name for name in given.without.split(",") if name]:
        only = [name for name in only or names if name not in without]
    if unknown := {*only, *without} - {*names}:
        parser.error(f"no kinds {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")

    def clean(probe: str) -> bool:
        kinds = only or MUTATIONS.get(probe, [])
        found = run(seed, count, kinds, short, probe)
        tell(found, seed, count, kinds)
        return found.clean

    if given.system == "ours":
        return 0 if clean("") else 1
    if given.system != "mutations":
        return 0 if clean(given.system) else 1
    unseen = [probe for probe in MUTATIONS if clean(probe)]
    print(f"not noticed: {', '.join(unseen) or 'none'}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
