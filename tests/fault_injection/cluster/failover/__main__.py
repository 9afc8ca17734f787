"""``make failover``: Postgres and Redis fail over under load, each TIMES times; a row for each, and the verdict.

Exit code 1 if a task was lost, or an effect in the database doubled.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.chart.tools import CHART
from tests.e2e.cluster.kube import Failed, need, run
from tests.fault_injection.cluster.failover import postgres, redis
from tests.fault_injection.cluster.failover.report import FailoverRow, measure, table
from tests.fault_injection.cluster.failover.servers import DATABASE, DATABASE_SECRET, Pair, common
from tests.fault_injection.cluster.release import IMAGE, Release, build
from tests.fault_injection.cluster.verdict import verdict
from tests.support.notes import noted

RATE = float(os.environ.get("RATE", "20"))
"""Requests a second; half of them call tasks, an eighth publishes, which starts three."""
TIMES = int(os.environ.get("TIMES", "2"))
LONGEST = 3600
"""Seconds: a guard against a load that nobody ends."""
PATIENCE = 120.0
"""Seconds until all must be well, or the row says that it is not."""
QUIET = 30.0
"""Seconds of load before the first failover, for comparison."""


class Replicated(Release):
    """A release whose Postgres and Redis are two servers each."""

    name = "pressroom-failover"
    namespace_class = postgres.Database
    namespace: postgres.Database
    database, database_secret = DATABASE, DATABASE_SECRET

    def start(self) -> None:
        """Start the servers, install the chart on them, and wait until calls come. Raises Failed."""
        self.namespace.apply(*common(self.namespace.name))
        self.postgres, self.redis = (
            postgres.Postgres(self.namespace, self.nodes), redis.Redis(self.namespace, self.nodes),
        )  # fmt: skip
        self.postgres.start()
        self.redis.start()
        self.install(IMAGE)
        self.call()

    def datastores(self) -> list[str]:
        files = [CHART / "ci" / f"{name}-values.yaml" for name in ("cloudnativepg", "redis-failover")]
        # There is no pooler before this Postgres.
        return [*(f"--values={file}" for file in files), "--set=externalDatabase.maxConnections=300"]


def fail_over(release: Replicated, pair: Pair, row: FailoverRow) -> None:
    """Do it, have a new standby follow, and wait until all is well, or for PATIENCE. Raises Failed."""
    print(f"… {row.title}", file=sys.stderr, flush=True)
    row.begin, row.switched = pair.fail_over()
    print(f"  {row.switched - row.begin:6.1f} s  {pair.primary} is the primary", file=sys.stderr, flush=True)
    pair.follow()
    print(f"  {time.time() - row.begin:6.1f} s  {pair.standby} follows it", file=sys.stderr, flush=True)
    try:
        row.recovery = release.settle(row.title, PATIENCE) - row.begin
        print(f"  {row.recovery:6.1f} s  all is well", file=sys.stderr, flush=True)
    except Failed as error:  # a machine too slow for the load is no loss: the verdict is the books'
        row.recovery = time.time() - row.begin
        row.overdue = True
        print(f"  {row.recovery:6.1f} s  {error}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault_injection.cluster.failover", description=__doc__,
    )  # fmt: skip
    parser.add_argument("--seed", default="", help="of the calls and moments; printed, chosen if none is given")
    seed = parser.parse_args().seed or secrets.token_hex(4)
    need("kubectl", "docker")
    print(f"seed {seed}\n{run('kubectl', 'version')}", flush=True)
    build(postgres.IMAGE, redis.IMAGE, upgrade=False)
    release = Replicated(seed, RATE, round(RATE * LONGEST), keda=False)
    rows: list[FailoverRow] = []
    try:
        release.start()
        print("… calls come", file=sys.stderr, flush=True)
        rows.append(FailoverRow("none", time.time(), ""))
        time.sleep(QUIET)
        for _ in range(TIMES):
            for title, pair, needs in (
                ("Postgres", release.postgres, "postgres"), ("Redis", release.redis, ""),
            ):  # fmt: skip
                rows.append(FailoverRow(title, time.time(), needs))
                fail_over(release, pair, rows[-1])
                time.sleep(release.rng.uniform(5, 10))
        ended = time.time()
        with tempfile.TemporaryDirectory() as folder:
            found = verdict(release, rows, Path(folder))
            measure(rows, Path(folder))
            published = len(noted(Path(folder) / "published"))
    except Failed as error:
        print(f"\n{error}\n{release.namespace.state()}\n{table(rows)}", file=sys.stderr)
        return 1
    finally:
        if not os.environ.get("KEEP"):
            release.delete()
    called, done = (sum(getattr(line, name) for line in found.lines.values()) for name in ("acknowledged", "executed"))
    requests, seconds = sum(row.requests for row in rows), ended - rows[0].begin
    unanswered = sum(row.refused + sum(row.failed.values()) for row in rows)
    print(f"\n{found}\n\n{table(rows)}\n")
    print(f"requests: {requests}, {requests / seconds:.0f} a second, of which {unanswered} did not succeed")
    print(f"tasks: {called} called and {done} done, and {published} of publications: ", end="")
    print(f"{(called + published) / seconds:.0f} a second")
    print(f"lost {found.lost}, doubled {found.doubled} transactional")
    return 0 if found.clean else 1


if __name__ == "__main__":
    sys.exit(main())
