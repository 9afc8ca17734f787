"""``make bench-retention``: drop a day of a million ended runs while calls, claims and ends go on.

PostgreSQL (durable, as installed) runs in a temporary folder. Two threads call, claim and end runs as fast as they can
and note how long each statement takes. The exit code is 1 if the drop or one of their statements exceeds its limit.
"""

from __future__ import annotations

import datetime
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from bench.stack import installed_before, stack

DROP_LIMIT, STATEMENT_LIMIT = 1.0, 0.1
"""Maximum seconds of the drop, and of a statement of the others."""
KEPT_IN = 1_000
"""One run in so many is a dead letter, which is carried over."""
BEFORE = 3.0
"""Seconds of load before the drop, to compare with."""

FILL = f"""
CREATE UNLOGGED TABLE drawn AS
    SELECT n, md5(n::text) AS text, (
        lpad(to_hex((extract(epoch FROM %(day)s::timestamptz) * 1000)::bigint + n * 80000000 / %(n)s), 12, '0')
        || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15)
    )::uuid AS id
    FROM generate_series(1::bigint, %(n)s) n;
INSERT INTO taskruns_taskcall (id, headers, body, properties)
    SELECT id, repeat(text, 25), repeat(text, 32), repeat(text, 4) FROM drawn;
INSERT INTO taskruns_endedrun (id, celery_id, name, queue, priority, status, created_at, run_at, started_at,
        finished_at, attempt, losses, misses, claim, progress_message, result, error_type, error, traceback)
    SELECT id, text, 'app.blog.tasks.reindex_post', 'default', 0,
        CASE WHEN n %% {KEPT_IN} = 0 THEN 'dead' ELSE 'succeeded' END, at, at, at, at, 1, 0, 0, id, '',
        'null', '', '', ''
    FROM drawn, (SELECT %(day)s::timestamptz AS at) moment;
DROP TABLE drawn
"""


class Load(threading.Thread):
    """Calls, claims and ends runs, one after the other."""

    def __init__(self, ending: threading.Event) -> None:
        super().__init__()
        self._ending = ending
        self.done = 0
        self.longest = {"call": 0.0, "claim": 0.0, "end": 0.0}
        self.error: Exception | None = None

    def run(self) -> None:
        """Go on until the event is set."""
        from django.db import connection

        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self.error = error
        finally:
            connection.close()

    def _run(self) -> None:
        from app.blog.tasks import reindex_post
        from pressroom.models import TaskRun
        from pressroom.sql import ends, runs, workers

        worker = workers.register("bench@here", '["default"]', 1)
        while not self._ending.is_set():
            result = self._timed("call", lambda: reindex_post.delay(1))
            run_id = TaskRun.of(result).pk
            claim = self._timed("claim", lambda run_id=run_id: runs.claim(run_id, uuid.uuid4(), worker))
            assert claim is not None
            assert self._timed("end", lambda claim=claim: ends.succeed(claim, "null"))
            self.done += 1

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.longest[name] = max(self.longest[name], time.perf_counter() - began)


def main(count: int) -> int:
    with stack():
        from django.db import connection
        from django.utils import timezone

        from pressroom.sql import history

        installed_before(8)
        day = history.days()[0]
        with connection.cursor() as cursor:
            noon = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
            cursor.execute(FILL, {"n": count, "day": noon})
            cursor.execute("VACUUM ANALYZE")
            cursor.execute("CHECKPOINT")  # a day that is dropped has been on the disk for days
            cursor.execute("SELECT pg_total_relation_size(%s)", [f"taskruns_endedrun_{day:%Y%m%d}"])
            size = int(cursor.fetchall()[0][0])
        print(f"{count:,} ended runs of {day}, {size / 1e6:,.0f} MB without their messages", flush=True)
        ending = threading.Event()
        load = [Load(ending) for _ in range(2)]
        for thread in load:
            thread.start()
        time.sleep(BEFORE)
        before = {name: max(one.longest[name] for one in load) for name in load[0].longest}
        for one in load:
            one.longest = dict.fromkeys(one.longest, 0.0)
        done, began = sum(one.done for one in load), time.perf_counter()
        now = timezone.now()
        dropped = history.drop_day(day, {"succeeded": now, "dead": now - datetime.timedelta(days=90)})
        took = time.perf_counter() - began
        rate = (sum(one.done for one in load) - done) / took
        ending.set()
        for one in load:
            one.join()
            if one.error is not None:
                raise one.error
        longest = {name: max(one.longest[name] for one in load) for name in before}
    print(f"dropped {dropped:,} of them in {took:.2f} s, with {rate:,.0f} runs a second beside it")
    print(f"{'longest, ms':14}{'before':>10}{'meanwhile':>12}")
    for name, seconds in longest.items():
        print(f"{name:14}{before[name] * 1000:10.0f}{seconds * 1000:12.0f}")
    ok = took <= DROP_LIMIT and max(longest.values()) <= STATEMENT_LIMIT
    print(
        f"the drop within {DROP_LIMIT:g} s, no statement over {STATEMENT_LIMIT * 1000:.0f} ms: {'yes' if ok else 'no'}"
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(int(re.sub(r"[_,]", "", sys.argv[1]))))
