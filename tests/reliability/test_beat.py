"""Beat: every tick fires exactly once, whoever dies; an admin's edit stays."""

import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from pressroom.beat.scheduler import LedgerScheduler
from pressroom.models import BrokenSchedule, TaskRun
from tests.support.locks import waiting_for_locks
from tests.support.processes import Process, Stack
from tests.support.waiting import until

NAME = "cleanup-expired-tokens"


@pytest.fixture
def beats(stack: Stack, tmp_path: Path) -> Any:
    def start(number: int) -> Process:
        pidfile = str(tmp_path / f"beat-{number}.pid")
        return stack.start(
            [sys.executable, "-m", "celery", "-A", "app", "beat", "-l", "info", f"--pidfile={pidfile}"],
            "beat: Starting...",
        )

    return start


@pytest.fixture
def every_second(transactional_db: None) -> PeriodicTask:
    second = IntervalSchedule.objects.create(every=1, period="seconds")
    return PeriodicTask.objects.create(name="probe", task="probe.effect", args='["/dev/null", "x"]', interval=second)


def ticks() -> int:
    return PeriodicTask.objects.get(name="probe").total_run_count


def runs() -> int:
    return TaskRun.objects.filter(name="probe.effect").count()


def test_two_beats_one_killed_and_redis_away(every_second: PeriodicTask, beats: Any, redis_server: Any) -> None:
    first, second = beats(1), beats(2)
    until(lambda: ticks() >= 2, "two ticks")
    redis_server.stop()
    until(lambda: ticks() >= 7, "five more without Redis")
    redis_server.start()
    # Right after a tick of its own, where it made one.
    fired = first.output().count("schedule probe:")
    until(
        lambda: first.output().count("schedule probe:") > fired or second.output().count("schedule probe:") > 9,
        "one more",
    )
    first.kill()
    until(lambda: ticks() >= 12, "the other goes on")
    second.stop()

    assert runs() == ticks()
    moments = sorted(TaskRun.objects.filter(name="probe.effect").values_list("created_at", flat=True))
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]
    # Half of the schedule's second: a busy machine makes one late, but the same one twice would be there at once.
    assert min(gaps) > 0.5, "no tick was fired twice"


def test_broken_schedules_stop_no_other_one(beats: Any, every_second: PeriodicTask) -> None:
    never = IntervalSchedule.objects.create(every=0, period="seconds")
    nowhere = CrontabSchedule.objects.create()
    for name, fields in {
        "no list": {"interval": every_second.interval, "args": "5"},
        "no interval": {"interval": never},
        "no queue": {"interval": every_second.interval, "queue": "nowhere"},
        "no zone": {"crontab": nowhere},
    }.items():
        PeriodicTask.objects.create(name=name, task="probe.effect", **fields)
    CrontabSchedule.objects.filter(pk=nowhere.pk).update(minute="soon")
    beat = beats(1)
    until(lambda: ticks() >= 3, "three ticks of the one that works")
    assert set(BrokenSchedule.objects.values_list("name", flat=True)) == {
        "no list", "no interval", "no queue", "no zone"
    }  # fmt: skip
    assert beat.output().count("is set aside") == 4
    PeriodicTask.objects.get(name="no list").delete()
    PeriodicTask.objects.filter(name="no queue").update(queue=None, args='["/dev/null", "x"]')
    PeriodicTasks.update_changed()
    until(lambda: PeriodicTask.objects.get(name="no queue").total_run_count, "the mended one fires")
    assert set(BrokenSchedule.objects.values_list("name", flat=True)) == {"no interval", "no zone"}
    assert beat.stop() == 0


def test_an_edit_in_the_admin_outlives_a_restart(beats: Any, every_second: PeriodicTask) -> None:
    beat = beats(1)
    task = until(lambda: PeriodicTask.objects.filter(name=NAME).first(), "the schedule is made")
    assert str(task.crontab.hour) == "3"
    task.crontab.hour = "5"
    task.crontab.save()
    task.enabled = False
    task.save()
    beat.stop()
    before = ticks()
    beats(2)
    until(lambda: ticks() > before, "the new one has read its schedules")
    task.refresh_from_db()
    assert (str(task.crontab.hour), task.enabled) == ("5", False)


def test_the_code_s_change_is_taken_over(transactional_db: None) -> None:
    from celery.schedules import crontab

    from app.celery import app

    scheduler = LedgerScheduler(app=app, lazy=True)
    entry = {"task": "probe.effect", "schedule": crontab(hour=3, minute=0)}
    scheduler.update_from_dict({"mine": entry})
    scheduler.update_from_dict({"mine": {**entry, "schedule": crontab(hour=4, minute=0)}})
    assert str(PeriodicTask.objects.get(name="mine").crontab.hour) == "4"


def test_embedded_in_a_worker(every_second: PeriodicTask, stack: Stack) -> None:
    worker = stack.worker("-B")
    until(lambda: runs() >= 2, "two ticks")
    worker.stop()
    assert runs() == ticks()


def test_sigterm_while_it_reads_its_schedules(beats: Any) -> None:
    """Celery's own handler would open the schedule again, by the connection that is just being used."""
    with transaction.atomic(), connection.cursor() as cursor:
        # What it reads first waits for us.
        cursor.execute("LOCK TABLE django_celery_beat_periodictask IN ACCESS EXCLUSIVE MODE")
        beat = beats(1)
        until(waiting_for_locks, "it waits for the table")
        assert beat.stop() == 0


def test_sigterm_whose_exception_is_lost() -> None:
    """As it is when it interrupts a statement: Django's rollback is refused and puts its own error in its place."""
    from celery.beat import Service

    from app.celery import app
    from pressroom.beat.command import LedgerBeat

    class Losing(LedgerScheduler):
        ticks = 0

        def setup_schedule(self) -> None:
            """None is needed."""

        def tick(self, *args: Any, **kwargs: Any) -> float:
            self.ticks += 1
            with suppress(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
            assert self.ticks == 1, "it goes on after a SIGTERM"
            return 0.0

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    service = Service(app, scheduler_cls=Losing)
    try:
        LedgerBeat(app=app).install_sync_handler(service)
        service.start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
