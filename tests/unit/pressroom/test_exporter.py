"""The exporter's figures, with a real Postgres and Redis, and each of them away."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Iterator
from datetime import timedelta
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from app.accounts.models import User
from app.celery import app
from app.queues import QUEUES
from pressroom.enqueue.broker import prefixed
from pressroom.models import EndedRun, Status, TaskRun, Worker
from pressroom.monitoring import queue_stats
from pressroom.monitoring.exporter import _OF_QUEUE, Exporter
from pressroom.monitoring.queue_stats import read_ledger
from pressroom.sql import dispatch, ends, runs, workers
from pressroom.sql.rounds import Ticker
from pressroom.uuid7 import uuid7
from tests.support.ledger_rows import change_run
from tests.support.plugin import RedisServer

NONE = {queue.name: 0 for queue in QUEUES}
OF_LEDGER = {name for name, *_ in _OF_QUEUE}


@pytest.fixture
def exporter(transactional_db: None) -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    end(exporter)


def end(exporter: Exporter) -> None:
    """Its threads have connections of their own, which are to be gone before the database is emptied."""
    for source in filter(None, (exporter.postgres, exporter.apps)):
        source._thread.submit(connections.close_all).result()
        source._thread.shutdown()


def scrape(exporter: Exporter) -> dict[str, dict[str, float]]:
    """By metric and the value of its only label."""
    status, content_type, body = exporter.route("/metrics", "")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    told: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            [label] = sample.labels.values() or [""]
            told.setdefault(sample.name, {})[label] = sample.value
    return told


def call(queue: str = "default", **options: Any) -> TaskRun:
    return TaskRun.of(app.send_task("probe.effect", ["/dev/null", "x"], queue=queue, **options))


def claim(run: TaskRun, worker: int) -> runs.Claim:
    claimed = runs.claim(run.pk, uuid7(), worker)
    assert claimed is not None
    return claimed


def test_every_declared_queue_is_told_of_also_at_0(exporter: Exporter, redis_server: RedisServer) -> None:
    told = scrape(exporter)
    for name in OF_LEDGER - {"pressroom_queue_mean_runtime_seconds"} | {"pressroom_queue_messages"}:
        assert told[name] == NONE, name
    assert "pressroom_queue_mean_runtime_seconds" not in told  # of nothing there is no mean
    assert told["pressroom_queue_max_wait_seconds"] == {queue.name: queue.max_wait for queue in QUEUES}
    assert told["pressroom_postgres_up"] == told["pressroom_redis_up"] == {"": 1}
    assert told["pressroom_redis_memory_used_bytes"][""] > 100_000
    assert 1 <= told["pressroom_postgres_connections"][""] < told["pressroom_postgres_max_connections"][""]


def test_a_run_is_counted_where_it_stands(exporter: Exporter) -> None:
    worker = workers.register("emails@one", '["emails"]', 7)
    called = [call("emails", priority=number % 3) for number in range(10)]
    call("emails", countdown=3600)
    taken = dispatch.take_due({"emails": 4})
    running = [claim(run, worker) for run in called[:3]]
    ends.fail(running[0], runs.LOST, None)
    ends.succeed(running[1], None)
    change_run(called[1].pk, started_at=timezone.now() - timedelta(seconds=8))

    told = read_ledger().queues["emails"]
    live = len({row.run_id for row in taken} - {run.pk for run in called[:3]})
    assert (told.due, told.published, told.running, told.dead) == (7, live, 1, 1)
    assert (told.depth, told.is_capped) == (8, False)
    assert (told.workers, told.slots) == (1, 7)
    assert told.mean_runtime == pytest.approx(8, abs=1)
    assert read_ledger().queues["default"].depth == 0

    status, _, body = exporter.route("/queues/emails", "")
    assert (status, json.loads(body)) == (200, {"depth": 8, "due": 7, "paused": 0, "held": 0, "running": 1})


def test_the_oldest_due_task_and_the_relays_lag(exporter: Exporter) -> None:
    old, young, suspect = call(priority=9), call(priority=0), call()
    now = timezone.now()
    change_run(old.pk, run_at=now - timedelta(seconds=50))
    change_run(young.pk, run_at=now - timedelta(seconds=10))
    # Suspects wait for one another: that is no lag.
    change_run(suspect.pk, run_at=now - timedelta(seconds=90), losses=2)

    told = read_ledger().queues["default"]
    assert told.oldest == pytest.approx(90, abs=3)
    assert told.relay_lag == pytest.approx(50, abs=3)
    dispatch.take_due({"default": 100})
    told = read_ledger().queues["default"]
    assert told.oldest == pytest.approx(90, abs=3)
    assert told.relay_lag == 0


def test_what_ended_in_other_queues_is_not_read(db: None) -> None:
    """Else a scrape takes as long as there are runs, for a queue whose tasks are rare."""
    now = timezone.now()
    busy = [queue.name for queue in QUEUES[:-1]]
    EndedRun.objects.bulk_create(
        EndedRun(
            id=uuid7(), celery_id=str(n), queue=busy[n % len(busy)], status=Status.SUCCEEDED, result="x" * 1_500,
            created_at=now, run_at=now, started_at=now - timedelta(seconds=n + 2),
            finished_at=now - timedelta(seconds=n),
        )
        for n in range(3_000)
    )  # fmt: skip
    read = """
    SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables
    WHERE relname ~ '^taskruns_(live|ended)run'
    """
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE taskruns_endedrun")
        for way in ("seqscan", "bitmapscan"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute(read)
        [before] = cursor.fetchone() or ()
        told = read_ledger().queues
        cursor.execute(read)
        [after] = cursor.fetchone() or ()
    means = {name: queue.mean_runtime for name, queue in told.items()}
    assert means == dict.fromkeys(busy, 2) | {QUEUES[-1].name: None}
    assert after - before <= len(QUEUES) * queue_stats.LATEST


def test_counts_end_at_the_cap(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_stats, "SQL", queue_stats.SQL.replace(f"{queue_stats.CAP}", "5"))
    monkeypatch.setattr(queue_stats, "CAP", 5)
    with transaction.atomic():
        for number in range(12):
            call(priority=number % 4)
    assert read_ledger().queues["default"].due == 5
    assert scrape(exporter)["pressroom_queue_capped"] == NONE | {"default": 1}


def test_workers(exporter: Exporter) -> None:
    workers.register("emails@one", '["emails", "default"]', 2)
    workers.end([workers.register("emails@left", '["emails"]', 2)])
    silent = workers.register("emails@silent", '["emails"]', 2)
    Worker.objects.filter(pk=silent).update(heartbeat_at=timezone.now() - timedelta(seconds=60))
    gone = workers.register("emails@gone", '["emails"]', 2)
    Worker.objects.filter(pk=gone).update(dead_at=timezone.now() - timedelta(hours=1))

    told = scrape(exporter)
    assert told["celery_worker_up"] == {"one": 1, "left": 0, "silent": 0}
    assert told["celery_active_worker_count"] == NONE | {"emails": 1, "default": 1}
    assert told["celery_active_process_count"] == NONE | {"emails": 2, "default": 2}


def test_ticks(exporter: Exporter) -> None:
    assert "pressroom_tick_age_seconds" not in scrape(exporter)
    relay = Ticker("relay")
    relay.tick()
    with CaptureQueriesContext(connection) as queries:
        relay.tick()
    assert len(queries) == 0, "it is written every few seconds, not at each round"
    assert 0 <= read_ledger().tick_ages["relay"] < 5


def test_lateness_of_schedules(db: None) -> None:
    now = timezone.now()
    every_minute = IntervalSchedule.objects.create(every=60, period="seconds")
    at_three = CrontabSchedule.objects.create(hour="3", minute="0")

    def schedule(name: str, last: timedelta, **fields: Any) -> None:
        PeriodicTask.objects.create(name=name, task="t", last_run_at=now - last, **fields)

    schedule("late", timedelta(seconds=100), interval=every_minute)
    schedule("on time", timedelta(seconds=30), interval=every_minute)
    schedule("paused", timedelta(days=3), interval=every_minute, enabled=False)
    schedule("not yet", timedelta(days=3), interval=every_minute, start_time=now + timedelta(days=1))
    schedule("days late", timedelta(days=3), crontab=at_three)

    told = queue_stats.lateness()
    assert told.keys() == {"late", "on time", "days late"}
    assert told["late"] == pytest.approx(40, abs=3)
    assert told["on time"] == 0
    assert timedelta(days=2) < timedelta(seconds=told["days late"]) < timedelta(days=3)


def test_what_postgres_does_not_tell_is_left_out(exporter: Exporter) -> None:
    ours = connection.settings_dict
    there = ours["HOST"], ours["PORT"]
    ours["HOST"], ours["PORT"] = "127.0.0.1", "1"
    try:
        told = scrape(exporter)
        status, content_type, body = exporter.route("/queues/emails", "")
    finally:
        ours["HOST"], ours["PORT"] = there
    assert told["pressroom_postgres_up"] == {"": 0}
    assert told["pressroom_redis_up"] == {"": 1}
    assert not told.keys() & (OF_LEDGER | {"celery_worker_up", "pressroom_schedule_lateness_seconds"})
    assert (status, content_type) == (503, "application/problem+json")
    assert json.loads(body)["status"] == 503
    assert exporter.route("/livez", "")[0] == 200


@pytest.mark.parametrize("how", ["stopped", "hangs"])
def test_what_redis_does_not_tell_is_left_out(exporter: Exporter, redis_server: RedisServer, how: str) -> None:
    if how == "stopped":
        redis_server.stop()
    else:
        redis_server.pause(20_000)
    told = scrape(exporter)
    assert told["pressroom_redis_up"] == {"": 0}
    assert told["pressroom_postgres_up"] == {"": 1}
    assert not told.keys() & {"pressroom_queue_messages", "pressroom_redis_memory_used_bytes"}
    assert told["celery_queue_length"] == NONE


def test_the_lists_own_length(exporter: Exporter, redis_server: RedisServer) -> None:
    redis_server.client().lpush(prefixed("emails"), "1", "2")
    assert scrape(exporter)["pressroom_queue_messages"] == NONE | {"emails": 2}


def test_many_scrapes_at_once_ask_once(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = exporter.postgres._read
    monkeypatch.setattr(exporter.postgres, "_read", lambda: asked.append(1) or read())
    threads = [threading.Thread(target=scrape, args=[exporter]) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


def test_unknown_paths_and_queues(exporter: Exporter) -> None:
    status, content_type, body = exporter.route("/queues/nothing", "")
    assert (status, content_type) == (404, "application/problem+json")
    assert "emails" in json.loads(body)["detail"]
    assert exporter.route("/other", "") is None


def test_an_app_tells_of_its_own_tables(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one whose question fails takes nothing but its answer away."""
    probes = types.ModuleType("app.accounts.metrics")
    monkeypatch.setattr(probes, "figures", lambda: [GaugeMetricFamily("users", "Of us.", User.objects.count())], False)
    monkeypatch.setitem(sys.modules, probes.__name__, probes)
    probes.__spec__ = ModuleSpec(probes.__name__, None)
    exporter = Exporter()
    assert exporter.apps is not None
    User.objects.create_user("kim", "kim@example.com")
    try:
        assert scrape(exporter)["users"] == {"": 1}
        for broken in (lambda: connection.cursor().execute("SELECT no_such_column"), lambda: {}["no such key"]):
            monkeypatch.setattr(probes, "figures", broken)
            exporter.apps._answered_at = 0.0
            told = scrape(exporter)
            assert "users" not in told
            assert told["pressroom_postgres_up"] == {"": 1}
    finally:
        end(exporter)
