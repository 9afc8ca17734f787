"""``make bench-operations``: the cost of the operations pages and of a scrape with a million runs in the ledger.

PostgreSQL (durable, as installed) runs in a temporary folder. Django's test client requests the pages, so the results
contain all of the server's work and no network. The exit code is 1 if a page or the scrape exceeds its limit.
"""

from __future__ import annotations

import datetime
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from bench.stack import installed_before, stack

PAGE_LIMIT, SCRAPE_LIMIT = 300.0, 20.0
"""Maximum milliseconds of server time of a page and of a scrape of the exporter."""
REPEATS = 9

WHOLE = 1_000_000
"""How many of the newest runs have whole messages. Those before have short ones: no page reads them."""

# A week of work, a fifth of it in the last hour. Runs are numbered from 1; the newest is last. Names and outcomes are
# like those of a busy site: most runs succeeded, a few in a hundred did not, and a backlog waits.
DRAW = """
CREATE UNLOGGED TABLE drawn AS SELECT
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || '8'
        || substr(hash, 4, 15))::uuid AS id,
    'celery-' || hash AS celery_id, name, queue, 0 AS priority, status,
    CASE WHEN is_short THEN '{}' ELSE
        '{"lang": "py", "task": "' || name || '", "id": "celery-' || hash || '", "root_id": "celery-' || hash
        || '", "parent_id": null, "group": null, "retries": 0, "timelimit": [360, 300], "origin": "gen1@web-'
        || n %% 20 || '", "argsrepr": "[' || n || ']", "kwargsrepr": "{}", "ignore_result": false, "stamps": {}, '
        || '"__django_structlog__": {"request_id": "' || substr(hash, 1, 8) || '-request"}, "taskrun": {"eta": null}}'
    END AS headers,
    CASE WHEN is_short THEN '[[], {}, {}]' ELSE
        '[[' || n || ', "post-' || n || '@example.com"], {"language": "ko", "retry": false}, '
        || '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]' END AS body,
    CASE WHEN is_short THEN '{}'
        ELSE '{"correlation_id": "celery-' || hash || '", "priority": 0, "delivery_mode": 2}' END AS properties,
    at AS created_at, CASE WHEN late THEN now() + interval '1 day' ELSE at END AS run_at,
    CASE WHEN NOT waits THEN at + interval '10 ms' END AS published_at,
    CASE WHEN NOT waits THEN at + wait END AS started_at,
    CASE WHEN NOT waits AND status <> 'running' THEN least(at + wait + interval '1 second', now()) END AS finished_at,
    CASE WHEN waits THEN 0 ELSE 1 END AS attempt, CASE WHEN status = 'running' THEN 1 + n %% 8 END AS worker_id,
    CASE WHEN status = 'succeeded' THEN '{"sent": 1}' END AS result,
    CASE WHEN failed THEN (ARRAY['ConnectionError', 'TimeoutError', 'KeyError'])[1 + n %% 3] ELSE '' END AS error_type,
    CASE WHEN failed THEN 'no answer from 192.0.2.1 within 10 s' ELSE '' END AS error,
    CASE WHEN failed AND NOT is_short
        THEN repeat('  File "/app/app/integrations/services.py", line 120, in call' || chr(10), 20)
        ELSE '' END AS traceback
FROM (
    SELECT n, hash, name, CASE WHEN name LIKE '%%mail%%' OR name LIKE '%%notify%%' THEN 'emails'
            WHEN name LIKE '%%report%%' THEN 'reports' ELSE 'default' END AS queue,
        status, status IN ('queued', 'retrying') AS waits, status IN ('dead', 'retrying') AS failed,
        status = 'retrying' OR status = 'queued' AND n %% 3 = 0 AS late, at, n <= %(n)s - %(whole)s AS is_short,
        make_interval(secs => n %% 97 / 40.0) AS wait
    FROM (
        SELECT n, md5(n::text) AS hash,
            CASE WHEN n > %(n)s - 40 THEN 'running' WHEN n > %(n)s * 0.97 THEN 'queued'
                WHEN n %% 100 = 7 THEN 'dead' WHEN n %% 200 = 8 THEN 'cancelled' WHEN n %% 500 = 9 THEN 'retrying'
                WHEN n %% 500 = 10 THEN 'expired' WHEN n %% 500 = 11 THEN 'replaced' ELSE 'succeeded' END AS status,
            CASE WHEN n %% 150000 = 1 THEN 'app.reports.tasks.send_daily_summary'
                WHEN n %% 100 < 60 THEN 'app.blog.tasks.notify_subscribers'
                WHEN n %% 100 < 80 THEN 'app.accounts.tasks.send_welcome_mail'
                WHEN n %% 100 < 95 THEN 'app.integrations.tasks.call_external_api'
                ELSE 'app.reports.tasks.build_report' END AS name,
            CASE WHEN n > %(n)s * 0.8 THEN now() - interval '1 hour' * (%(n)s - n) / (%(n)s * 0.2)
                ELSE now() - interval '1 hour' - interval '7 days' * (%(n)s * 0.8 - n) / (%(n)s * 0.8) END AS at
        FROM generate_series(1, %(n)s) n
    ) drawn
) made
"""
_COLUMNS = """id, celery_id, name, queue, priority, status, created_at, run_at, published_at, started_at, attempt,
    worker_id, result, error_type, error, traceback"""
FILL = f"""
INSERT INTO taskruns_taskcall (id, headers, body, properties) SELECT id, headers, body, properties FROM drawn;
INSERT INTO taskruns_liverun ({_COLUMNS}, losses, misses, progress_message)
    SELECT {_COLUMNS}, 0, 0, '' FROM drawn WHERE finished_at IS NULL;
INSERT INTO taskruns_endedrun ({_COLUMNS}, losses, misses, progress_message, finished_at)
    SELECT {_COLUMNS}, 0, 0, '', finished_at FROM drawn WHERE finished_at IS NOT NULL;
DROP TABLE drawn
"""
WEEK = 8
"""Days of history."""


def fill(runs: int) -> None:
    """Insert this many runs, and eight workers."""
    from django.db import connection

    installed_before(WEEK)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskruns_worker (name, queues, slots, started_at, heartbeat_at, memory)"
            " SELECT 'celery@worker-' || n, '[\"default\", \"emails\"]', 5, now(), now(), 2e8"
            " FROM generate_series(1, 8) n"
        )
        cursor.execute(DRAW, {"n": runs, "whole": WHOLE})
        with without_indexes(cursor):
            cursor.execute(FILL)
        cursor.execute("VACUUM ANALYZE")


@contextmanager
def without_indexes(cursor: Any) -> Iterator[None]:
    """Drop the indexes of the ended runs, and make them again at the end."""
    cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'taskruns_endedrun'")
    key = "taskruns_endedrun_pkey"
    indexes = {name: definition for name, definition in cursor.fetchall() if name != key}
    cursor.execute(f"ALTER TABLE taskruns_endedrun DROP CONSTRAINT {key}")
    for name in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    cursor.execute(f"ALTER TABLE taskruns_endedrun ADD CONSTRAINT {key} PRIMARY KEY (id)")
    for definition in indexes.values():
        cursor.execute(definition.replace(" ON ONLY ", " ON "))


def count() -> None:
    """Count the ended runs as the relay does. It is ten to twenty seconds behind."""
    from django.utils import timezone

    from pressroom.sql import figures

    until = timezone.now() - datetime.timedelta(seconds=20)
    while figures.count_ended(until):
        pass


def scrape() -> Callable[[], int]:
    """Return a function that does all of the exporter's work for a scrape, without HTTP.

    The exporter repeats its last answer for a second.
    """
    from pressroom.monitoring.exporter import Exporter

    exporter = Exporter()

    def ask() -> int:
        answer = exporter.route("/metrics", "")
        assert answer is not None
        assert b"pressroom_postgres_up 1.0" in answer[2]
        return int(answer[0])

    return ask


def pages(runs: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the pages by title, including those that could be slow."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    from pressroom.models import Status, TaskRun

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(get_user_model().objects.create_superuser("root", "root@example.com"))

    def get(path: str) -> Callable[[], int]:
        return lambda: client.get(f"/admin/operations/{path}").status_code

    old = TaskRun.objects.order_by("id")[runs // 2]
    dead = TaskRun.objects.filter(status=Status.DEAD).order_by("-id")[0]
    yield "Overview", get("")
    yield "Overview, of a day", get("?span=24h")
    yield "Overview, of a week", get("?span=7d")
    yield "Tasks", get("tasks/")
    yield "Tasks, half-way back", get(f"tasks/?before={old.pk}")
    yield "Tasks, by queue and status", get("tasks/?queue=reports&status=succeeded")
    yield "Tasks, what is running", get("tasks/?status=running")
    yield "Tasks, what is cancelled", get("tasks/?status=cancelled")
    yield "Tasks, a rare one by name", get("tasks/?name=send_daily_summary")
    yield "Tasks, by Celery id", get(f"tasks/?key={old.celery_id}")
    yield "Tasks, by an argument", get("tasks/?text=post-" + str(runs - 100))
    yield "Tasks, by an argument that none has", get("tasks/?text=nowhere")
    yield "Tasks, by an id that none has", get("tasks/?key=nowhere")
    yield "Tasks, of one day", get("tasks/?since=2000-01-01T00:00&until=2000-01-02T00:00")
    yield "Task", get(f"tasks/{dead.pk}/")
    yield "Dead letters", get("dead-letters/")
    yield "Dead letters, of one kind", get(f"dead-letters/?name={dead.name}&error_type={dead.error_type}")
    yield "Workers", get("workers/")
    yield "Schedules", get("schedules/")


def milliseconds(ask: Callable[[], int], pause: float) -> tuple[list[float], float]:
    """Return the milliseconds of REPEATS answers, after a first one that fills the caches, and their mean CPU time.

    CPU time is that of this process and of its Postgres sessions, so other work on the machine does not count.
    """
    from django.db import connection

    taken, begun = [], 0.0
    for repeat in range(REPEATS + 1):
        time.sleep(pause)
        begin = time.perf_counter()
        status = ask()
        if repeat:
            taken.append((time.perf_counter() - begin) * 1000)
        else:
            begun = cpu(connection)
        if status != 200:
            raise SystemExit(f"answered with {status}")
    return taken, (cpu(connection) - begun) * 1000 / REPEATS


def cpu(connection: Any) -> float:
    """Return the CPU seconds of this process and of its Postgres sessions, including that of the exporter."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        sessions = [psutil.Process(pid).cpu_times() for (pid,) in cursor.fetchall()]
    return time.process_time() + sum(session.user + session.system for session in sessions)


def main(runs: int) -> int:
    os.environ["LOG_LEVEL"] = "ERROR"
    with stack():
        begin = time.monotonic()
        fill(runs)
        print(f"{runs:,} runs written in {time.monotonic() - begin:,.0f} s")
        begin = time.monotonic()
        count()
        print(f"counted for the figures in {time.monotonic() - begin:,.0f} s\n")
        print(f"{'':37} {'median':>9} {'longest':>9} {'CPU':>9}")
        kinds = [(name, ask, PAGE_LIMIT, 0.0) for name, ask in pages(runs)]
        kinds.append(("The exporter, a scrape", scrape(), SCRAPE_LIMIT, 1.1))
        slow = 0
        for name, ask, limit, pause in kinds:
            taken, busy = milliseconds(ask, pause)
            median = statistics.median(taken)
            slow += median > limit
            figures = "".join(f"{figure:7.0f} ms" for figure in (median, max(taken), busy))
            print(f"{name:37}{figures}  under {limit:.0f} ms: {'no' if median > limit else 'yes'}", flush=True)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(int(re.sub(r"[_,]", "", sys.argv[1]))))
