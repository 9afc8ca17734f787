"""Postgres stopped, restarted, cut off, out of connections; directly and through a transaction-mode PgBouncer."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from app.local.servers import free_port
from pressroom.models import LIVE, Status, TaskRun
from pressroom.models import Worker as WorkerRow
from tests.reliability.conftest import Database
from tests.reliability.loads import assert_once_each, call
from tests.support.notes import noted
from tests.support.probes import tasks
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("postgres faults"), pytest.mark.timeout(600)]


class Web:
    """gunicorn, asked for what is in the database; how long it took at most."""

    def __init__(self, stack: Stack) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        bind = self.url.removeprefix("http://")
        command = [sys.executable, "-m", "gunicorn", "app.wsgi", "--workers=2", "--bind", bind]
        self.process = stack.start(command, "Booting worker")
        self.slowest = 0.0
        until(lambda: self.get() == 200, "it serves")
        until(lambda: len(self.process.children()) == 2, "so does its other process")
        self.slowest = 0.0

    def get(self) -> int:
        """The status. A 503 is a problem document that says when to come again."""
        began = time.monotonic()
        answer = httpx.get(f"{self.url}/api/posts/", timeout=120, trust_env=False)
        if answer.status_code != 200:
            assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json"), (
                answer.text
            )
            assert int(answer.headers["Retry-After"]) > 0
        self.slowest = max(self.slowest, time.monotonic() - began)
        return answer.status_code


def processes(*started: Process) -> set[tuple[int, float]]:
    """Each process and each child of it, known by when it was made."""
    found = [one for process in started for one in (process.pid, *process.children())]
    return {(pid, psutil.Process(pid).create_time()) for pid in found}


def started(effects: str) -> list[str]:
    return [line for line in noted(effects) if "started" in line]


def back_again(effects: str, web: Web | None = None) -> None:
    """What is called now is done; prints how long that took. The limit is a guard against hanging."""
    began = time.monotonic()
    result = tasks.effect.delay(f"{effects}.after", "back")
    until(lambda: TaskRun.of(result).status == Status.SUCCEEDED, "a task is done after the fault")
    print(f"back after {time.monotonic() - began:.1f} s", end=" ")
    if web is not None:
        until(lambda: web.get() == 200, "the web serves")
        print(f"slowest answer {web.slowest:.2f} s", end=" ")


def test_stopped_under_8_long_tasks(faults: Database, stack: Stack, effects: str, gate: Path, tmp_path: Path) -> None:
    """For more than twice the silence after which a worker counts as dead. Half of the tasks end meanwhile."""
    relay, worker, web = stack.relay(), stack.worker("--concurrency=8"), Web(stack)
    other_gate = tmp_path / "other gate"
    results = [tasks.hold.delay(effects, f"job{n}", str(gate if n % 2 else other_gate)) for n in range(8)]
    until(lambda: len(started(effects)) == 8, "all run")
    before = processes(relay, worker)
    faults.stop()
    statuses = set()

    def missed_20_heartbeats() -> bool:
        statuses.add(web.get())
        return worker.output().count("could not write the heartbeat") >= 20

    until(missed_20_heartbeats, "10 s are over")
    gate.touch()
    until(lambda: len(noted(effects)) == 12, "four end, and cannot say so")
    until(missed_20_heartbeats, "a while later")
    faults.start()
    back = WorkerRow.objects.get().heartbeat_at
    # Longer than the silence: who was to be declared dead would be by now.
    until(lambda: (WorkerRow.objects.get().heartbeat_at - back).total_seconds() > 7, "heartbeats go on")
    until(lambda: TaskRun.objects.filter(status__in=LIVE).count() == 4, "what ended meanwhile is written")
    other_gate.touch()
    until(done, "all are done")
    back_again(effects, web)

    assert statuses == {503}
    # 2 s are promised; a hang would take the 5 s of a connection's time-out, or 30.
    assert web.slowest < 4.0
    assert len(started(effects)) == 8
    assert {(r.status, r.attempt, r.losses) for r in map(TaskRun.of, results)} == {(Status.SUCCEEDED, 1, 0)}
    assert processes(relay, worker) == before
    assert WorkerRow.objects.get().dead_at is None


def test_hangs_under_load(faults: Database, stack: Stack, effects: str, gate: Path, tmp_path: Path) -> None:
    """It takes connections and answers nothing, for more than twice the silence after which a worker counts as dead."""
    second = IntervalSchedule.objects.create(every=1, period="seconds")
    clock = PeriodicTask.objects.create(name="clock", task="probe.effect", args='["/dev/null", "x"]', interval=second)
    command = [sys.executable, "-m", "celery", "-A", "app", "beat", f"--pidfile={tmp_path / 'beat.pid'}"]
    beat = stack.start([*command, "-l", "info"], "beat: Starting...")
    relay, worker, web = stack.relay(), stack.worker("--concurrency=8"), Web(stack)
    before = processes(relay, worker, beat, web.process)
    for n in range(4):
        tasks.hold.delay(f"{effects}.long", f"job{n}", str(gate))
    until(lambda: len(started(f"{effects}.long")) == 4, "the long ones run")
    call(effects, range(150))
    until(lambda: len(noted(effects)) >= 20, "work is under way")
    faults.freeze()
    began, statuses = time.monotonic(), []
    while time.monotonic() - began < 6:
        statuses.append(web.get())
    gate.touch()
    until(lambda: len(noted(f"{effects}.long")) == 8, "the long ones end, and cannot say so")
    while time.monotonic() - began < 12:
        statuses.append(web.get())
    faults.thaw()
    back = time.monotonic()
    clock.refresh_from_db()
    ticks = clock.total_run_count
    until(lambda: PeriodicTask.objects.get(name="clock").total_run_count > ticks, "beat goes on")
    back_again(effects, web)
    back = time.monotonic() - back
    until(lambda: len(noted(effects)) == 150, "all is done")
    beat_processes = processes(beat)
    beat.stop()
    until(done, "all is told")

    assert set(statuses) == {503}
    assert web.slowest < 4.0
    assert back < 30
    assert len(started(f"{effects}.long")) == 4
    assert_once_each(effects, range(150))
    assert TaskRun.objects.exclude(attempt=1, losses=0).count() == 0
    assert processes(relay, worker, web.process) | beat_processes == before
    assert WorkerRow.objects.get().dead_at is None


def test_restarted_under_load(faults: Database, stack: Stack, effects: str) -> None:
    stack.relay()
    stack.worker()
    call(effects, range(150))
    for turn in range(3):
        until(lambda turn=turn: len(noted(effects)) >= 20 * (turn + 1), "work is under way")
        faults.stop()
        faults.start()
    until(done, "everything is done")
    back_again(effects)

    assert_once_each(effects, range(150))


def test_sessions_cut_under_load(faults: Database, stack: Stack, effects: str) -> None:
    relay, worker, web = stack.relay(), stack.worker(), Web(stack)
    before = processes(relay, worker)
    call(effects, range(150))
    for turn in range(3):
        until(lambda turn=turn: len(noted(effects)) >= 20 * (turn + 1), "work is under way")
        assert faults.cut() > 0
        assert web.get() in (200, 503)
    until(done, "everything is done")
    back_again(effects, web)

    assert_once_each(effects, range(150))
    assert processes(relay, worker) == before


def test_out_of_connections(faults: Database, stack: Stack, effects: str) -> None:
    relay, worker, web = stack.relay(), stack.worker(), Web(stack)
    before = processes(relay, worker)
    call(effects, range(100))
    until(lambda: len(noted(effects)) >= 20, "work is under way")
    faults.admin("ALTER ROLE {role} CONNECTION LIMIT 0")
    until(lambda: faults.cut() == 0, "no session is left")
    assert web.get() == 503
    until(lambda: "could not write the heartbeat" in worker.output(), "the worker notices")
    until(lambda: "Postgres did not answer" in relay.output(), "the relay notices")
    faults.admin("ALTER ROLE {role} CONNECTION LIMIT -1")
    faults.reconnect()
    back_again(effects, web)
    until(done, "everything is done")

    assert web.slowest < 4.0
    assert_once_each(effects, range(100))
    assert processes(relay, worker) == before
