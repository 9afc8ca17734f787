"""``make chaos``: each fault alone under load, then at random from a printed seed; a row for each, and the verdict.

Exit code 1 where a task was lost or doubled, or a request failed that did not need what was gone.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.cluster.kube import Failed, need, need_keda, run
from tests.fault_injection.cluster.faults import FAULTS, SHORT, Fault
from tests.fault_injection.cluster.release import PROMETHEUS, Release, build
from tests.fault_injection.cluster.report import Row, table
from tests.fault_injection.cluster.verdict import verdict

RATE = float(os.environ.get("RATE", "20"))
"""Requests a second; half of them call tasks of the oracle's four kinds, an eighth publishes, which starts three."""
MINUTES = float(os.environ.get("MINUTES", "20"))
"""Of faults at random."""
ONLY = os.environ.get("ONLY", "").split()
"""Functions of tests/fault_injection/cluster/faults.py, to try these alone."""
LONGEST = 6 * 3600
"""Seconds: a guard against a load that nobody ends."""


def hit(release: Release, fault: Fault, rows: list[Row]) -> None:
    """Do it, and wait until all is well again. Raises Failed."""
    row = Row(fault.title, time.time(), fault.needs)
    print(f"… {fault.title}", file=sys.stderr, flush=True)
    rows.append(row)
    row.said = fault.act(release)
    print(f"  {time.time() - row.begin:6.1f} s  done", file=sys.stderr, flush=True)
    row.recovery = release.settle(fault.title) - row.begin
    row.alerts = release.alerts(row.begin, time.time())
    print(f"  {row.recovery:6.1f} s  all is well: {row.said}", file=sys.stderr, flush=True)


def plan(release: Release, short: bool) -> Iterator[Fault]:
    """Each alone, then at random for MINUTES; or a few."""
    known = {name: fault for name, fault in FAULTS.items() if possible(release, fault)}
    for name in ONLY or (SHORT if short else known):
        if name in known:
            yield known[name]
    end = time.monotonic() + (0 if short or ONLY else MINUTES * 60)
    while time.monotonic() < end:
        yield release.rng.choice([fault for fault in known.values() if not fault.long])
        time.sleep(release.rng.uniform(0, 10))


def possible(release: Release, fault: Fault) -> bool:
    return (not fault.node or release.weak is not None) and (not fault.node_shell or release.shell is not None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_injection.cluster", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the worst five, without KEDA")
    parser.add_argument("--seed", default="", help="of the calls and faults; printed, chosen where none is given")
    given = parser.parse_args()
    need("kubectl", "docker")
    if not given.short:
        need_keda()
    seed = given.seed or secrets.token_hex(4)
    print(f"seed {seed}\n{run('kubectl', 'version')}", flush=True)
    build("redis:8", "postgres:17", PROMETHEUS)
    release = Release(seed, RATE, round(RATE * LONGEST), keda=not given.short)
    for fault in FAULTS.values():
        if not possible(release, fault):
            print(
                f"left out, as it needs {'NODE_SHELL' if fault.node_shell else 'a second node'}: {fault.title}",
                flush=True,
            )
    rows: list[Row] = []
    try:
        release.start()
        rows.append(Row("nothing, for half a minute", time.time(), ""))
        time.sleep(30)
        for fault in plan(release, given.short):
            hit(release, fault, rows)
        with tempfile.TemporaryDirectory() as folder:
            found = verdict(release, rows, Path(folder))
    except Failed as error:
        print(f"\n{error}\n{release.namespace.state()}\n{table(rows)}", file=sys.stderr)
        return 1
    finally:
        if not os.environ.get("KEEP"):
            release.delete()
    failed = sum(sum(row.failed.values()) for row in rows)
    print(f"\n{found}\n\n{table(rows)}\n")
    print(f"lost {found.lost}, doubled {found.doubled} transactional, requests failed {failed}")
    return 0 if found.clean and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
