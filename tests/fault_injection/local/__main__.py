"""The command line: one run against one system, or a run for each guard switched off."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from app.local.servers import data_folder
from tests.fault_injection.local.faults import DO, PATIENCE, Fault, plan
from tests.fault_injection.local.stack import PRODUCTION, QUICK, SLOTS, WORKERS, Stack
from tests.fault_injection.local.tally import Tally, tally
from tests.support.notes import noted
from tests.support.processes import Process

MINUTES, TASKS = 10.0, 20_000
FAULTS = {
    "worker": 30, "child": 10, "pause": 5, "relay": 10, "redis": 5, "flushall": 2, "failover": 3, "postgres": 2,
}  # fmt: skip
SHORT_MINUTES, SHORT_TASKS = 0.4, 400
SHORT_FAULTS = {
    "worker": 3, "child": 1, "pause": 1, "relay": 2, "redis": 1, "flushall": 1, "failover": 1, "postgres": 1,
}  # fmt: skip
FAULTS_FOR = {
    "without-reconciler": {"worker": 3, "flushall": 1},
    "without-claim": {"failover": 5},
    "without-fence": {"pause": 5},
    "without-heartbeat": {"worker": 1},
}
"""In a short run without a guard, what the guard is there for."""
BODIES_GO_ON = {"relay", "redis", "flushall", "failover"}
"""Faults that end or stop no body: an effect outside the database comes once, too."""
LONGEST_SETTLING = 1800
"""Seconds: a guard against hanging."""


def run(system: str, seed: str, minutes: float, tasks: int, counts: dict[str, int], short: bool) -> Tally:
    """One run from an empty database to the verdict. Raises AssertionError where it does not come to one."""
    folder = Path(tempfile.mkdtemp(prefix="pressroom-oracle-"))
    data = data_folder(folder)
    stack = Stack(folder, data, system, QUICK if short else PRODUCTION)
    faults = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
    print(
        f"seed {seed}: {system}, {tasks} tasks in {minutes:g} min, {WORKERS} workers of {SLOTS}; {faults}", flush=True
    )
    try:
        stack.start()
        found = _watch(stack, seed, minutes * 60, tasks, counts)
    finally:
        stack.end()
        shutil.rmtree(data, ignore_errors=True)
        if "ORACLE_KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)
    print(found, flush=True)
    return found


def _watch(stack: Stack, seed: str, seconds: float, tasks: int, counts: dict[str, int]) -> Tally:
    kind = "stock" if stack.system == "stock" else "ours"
    arguments = [kind, str(stack.folder), seed, str(tasks), str(seconds)]
    client = stack.run("client", [sys.executable, "-m", "tests.fault_injection.local.client", *arguments])
    run = Run(stack)
    try:
        run.break_things(plan(seed, counts, seconds))
        run.join(client, bound=3 * seconds + 120)
    finally:
        client.end()
    found = run.settle()
    if stack.system == "bundles":
        run.say(f"{sum(map(int, noted(stack.folder / 'pushed')))} messages in all")
    if stack.crashed:
        run.say("\n".join(["ended by themselves and were started again:", *stack.crashed]))
    return found


class Run:
    """A run under way, with its clock."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begin

    def say(self, text: str) -> None:
        print(f"{self.elapsed:7.1f} s  {text}", flush=True)

    def keep(self) -> None:
        self.stack.keep()
        time.sleep(0.02)

    def break_things(self, faults: list[Fault]) -> None:
        """One fault after the other. Raises AssertionError where there is nothing to break."""
        for fault in faults:
            while self.elapsed < fault.at:
                self.keep()
            tried = self.elapsed
            while not (told := DO[fault.kind](self.stack, fault.rng, self.elapsed - tried < PATIENCE)):
                assert self.elapsed - tried < 120, f"nothing to hit for {fault.kind}"
                self.keep()
            self.say(told)
        self.say("that was the last fault")

    def join(self, client: Process, bound: float) -> None:
        """Until the caller has made all its calls."""
        while client.popen.poll() is None:
            assert self.elapsed < bound, f"the caller does not come to its end:\n{client.output()}"
            self.keep()
        assert client.popen.returncode == 0, client.output()
        self.say("that was the last call")

    def settle(self) -> Tally:
        """Until all is done and nothing is left that could run, or nothing more has come for a long time."""
        patience = self.stack.timing.settle
        effects, since = -1, self.elapsed
        bound = self.elapsed + LONGEST_SETTLING
        while True:
            assert self.elapsed < bound, "it does not come to an end"
            look = self.elapsed + patience / 20
            while self.elapsed < look:
                self.keep()
            if not self.stack.whole:
                since = self.elapsed
                continue
            # In this order: where nothing is left that could run, nothing more comes.
            left = self.stack.left()
            with self.stack.connect() as connection:
                found = tally(self.stack.folder, connection)
            if found.effects != effects:
                effects, since = found.effects, self.elapsed
            if not left and not found.missing:
                return found
            if self.elapsed - since > patience:
                found.stuck = left
                return found


def main() -> int:
    """0 where nothing was lost or doubled; for the mutations, where each was noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_injection.local", description=__doc__)
    parser.add_argument(
        "system", choices=["ours", "bundles", "stock", *FAULTS_FOR, "mutations"], nargs="?", default="ours"
    )
    parser.add_argument("--seed", default="", help="of the faults and the calls; printed, chosen where none is given")
    parser.add_argument("--minutes", type=float, help=f"{MINUTES:g} unless given; more bring more calls and faults")
    parser.add_argument("--tasks", type=int, help=f"{TASKS} unless given")
    parser.add_argument("--short", action="store_true", help="a small run, with a heartbeat's silence of 5 s for 20")
    given = parser.parse_args()
    # As Ctrl-C does: nothing that was started stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    short = given.short or given.system == "mutations"
    usual, tasks = (SHORT_MINUTES, SHORT_TASKS) if short else (MINUTES, TASKS)
    minutes = given.minutes or usual
    more = max(1.0, minutes / usual)
    tasks = given.tasks or round(tasks * more)
    seed = given.seed or secrets.token_hex(4)

    def clean(system: str) -> bool:
        counts = FAULTS_FOR.get(system, SHORT_FAULTS) if short else FAULTS
        counts = {kind: round(count * more) for kind, count in counts.items()}
        found = run(system, seed, minutes, tasks, counts, short)
        return found.clean and not (found.lines["outside"].doubled and counts.keys() <= BODIES_GO_ON)

    if given.system != "mutations":
        return 0 if clean(given.system) else 1
    unseen = [system for system in FAULTS_FOR if clean(system)]
    print(f"not noticed: {', '.join(unseen) or 'none'}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
