"""Tasks whose effects stand in a file outside of everything under test: one appended line an effect."""

import os
import signal
import sys
import time
import uuid
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection, transaction

from pressroom.execution.end_hooks import End
from pressroom.progress import is_cancel_requested, report_progress
from tests.support.notes import note, noted


@shared_task(name="probe.effect")
def effect(path: str, line: str) -> str:
    note(path, line)
    return line


@shared_task(name="probe.traced", bind=True)
def traced(self: Any, path: str, gate: str) -> str:
    """Wait at first, to be killed; then be retried; then use the database and call another task."""
    note(path, f"begun {os.getpid()}")
    begun = sum(line.startswith("begun") for line in noted(path))
    if begun == 1:
        while not os.path.exists(gate):
            time.sleep(0.01)
    if begun == 2:
        raise self.retry(countdown=0)
    Group.objects.create(name="traced")
    effect.delay(path, "after it")
    return "traced"


ORDERED: dict[str, Any] = {"owner_may_cancel": True}


@shared_task(name="probe.ordered", **ORDERED)
def ordered() -> None:
    """What its caller may cancel."""


def note_end(end: End) -> None:
    """What waits for a probe: its first argument is a file, its second how the hook behaves."""
    path, then = (*end.args, "")[:2]
    Group.objects.create(name=f"told {end.outcome} {end.celery_id}")
    if then == "raise":
        raise ValueError("the hook's own")
    if then == "database":
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
    if then == "deferred":
        LogEntry.objects.create(user_id=987654321, action_flag=1, object_repr="of nobody")
    if then == "close":
        connection.close()
    if then == "leave open":
        transaction.atomic().__enter__()
    note(path, f"{end.outcome} {end.error_type} {end.error}".strip())


WAITED_FOR: dict[str, Any] = {"on_end": note_end}


@shared_task(bind=True, name="probe.waited", max_retries=1, **WAITED_FOR)
def waited(self: Any, path: str, hook: str = "", then: str = "") -> str:
    """Does as it is told; `note_end` waits for it."""
    if then == "fail":
        raise KeyError("mine")
    if then == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    if then == "replace":
        raise self.replace(waited.si(path, hook))
    if then == "ignore":
        raise Ignore
    if then == "reject":
        raise Reject("no", requeue=False)
    return then


@shared_task(bind=True, name="probe.hold")
def hold(self: Any, path: str, name: str, until_exists: str) -> None:
    """Notes its start with its process id and waits for a file to exist."""
    note(path, f"{name} started {os.getpid()}")
    while not os.path.exists(until_exists):
        time.sleep(0.02)
    note(path, f"{name} ended")


@shared_task(name="probe.limited_effect", concurrency=2, key="name")
def limited_effect(path: str, name: str, number: int) -> None:
    """Two at once for each name."""
    time.sleep(0.05)
    note(path, str(number))


@shared_task(name="probe.steps")
def steps(total: int, until_exists: str) -> None:
    report_progress(total - 1, total, "nearly")
    while not os.path.exists(until_exists):
        time.sleep(0.02)


@shared_task(bind=True, name="probe.step")
def step(self: Any, path: str, to_go: int) -> None:
    note(path, f"{to_go} to go")
    if to_go:
        raise self.replace(step.s(path, to_go - 1))


@shared_task(bind=True, name="probe.retry_by_hand", max_retries=3)
def retry_by_hand(self: Any, path: str, succeed_at: int) -> int:
    note(path, f"{self.request.id} {self.request.retries} {time.time()}")
    if self.request.retries < succeed_at:
        raise self.retry(countdown=0.3, exc=ValueError(f"not yet: {self.request.retries}"))
    return int(self.request.retries)


@shared_task(bind=True, name="probe.retry_by_itself", autoretry_for=(ConnectionError,), retry_backoff=False,
             default_retry_delay=0.1, max_retries=2)  # fmt: skip
def retry_by_itself(self: Any, path: str) -> None:
    note(path, str(self.request.retries))
    raise ConnectionError("as ever")


@shared_task(bind=True, name="probe.times")
def times(self: Any) -> list[str | None]:
    """Retries once, then tells its eta and expiry."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    return [self.request.eta, self.request.expires]


@shared_task(name="probe.overrun", soft_time_limit=1, time_limit=60)
def overrun(path: str) -> None:
    try:
        while True:
            time.sleep(0.02)
    except SoftTimeLimitExceeded:
        note(path, "told")
        raise


@shared_task(name="probe.fail")
def fail(message: str) -> None:
    raise KeyError(message)


@shared_task(name="probe.reject")
def reject() -> None:
    raise Reject("no thanks", requeue=False)


@shared_task(bind=True, name="probe.reject_once")
def reject_once(self: Any, path: str) -> str:
    """Hands its message back the first time."""
    note(path, f"redelivered: {self.request.delivery_info['redelivered']}")
    if len(noted(path)) == 1:
        raise Reject("not here", requeue=True)
    return "taken"


@shared_task(bind=True, name="probe.properties")
def properties(self: Any) -> list[Any]:
    """Retries once, then tells what its message says of itself."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    return [self.request.delivery_info["priority"], self.request.reply_to, self.request.headers.get("colour")]


@shared_task(name="probe.unspeakable")
def unspeakable() -> Any:
    return object()


@shared_task(name="probe.caller")
def caller(path: str, line: str) -> None:
    """Calls another task from its body and links nothing."""
    effect.delay(path, line)


@shared_task(name="probe.suicide")
def suicide(path: str) -> None:
    """Kills the process it runs in."""
    note(path, "once more")
    os.kill(os.getpid(), 9)


@shared_task(name="probe.leave_once")
def leave_once(path: str) -> None:
    """Ends the thread, greenlet or process that it runs in, the first time."""
    note(path, "here")
    if len(noted(path)) == 1:
        sys.exit(1)


class Telling(Task):
    """Notes what failed."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(f"{args[0]}.failures", f"{task_id} {type(exc).__name__} {args[1]}")


@shared_task(bind=True, base=Telling, name="probe.hold_and_tell")
def hold_and_tell(self: Any, path: str, name: str, until_exists: str) -> None:
    hold.run(path, name, until_exists)


@shared_task(name="probe.slow_call")
def slow_call(path: str, gate: str, seconds: float) -> None:
    """Waits for a file and then so long, as for an answer from far away, and asks the database something."""
    note(path, "called")
    while not os.path.exists(gate):
        time.sleep(0.05)
    time.sleep(seconds)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    note(path, "answered")


@shared_task(name="probe.now")
def now() -> float:
    """What the worker's clock says."""
    return time.time()


@shared_task(name="probe.compute")
def compute(seconds: float) -> str:
    """Busy for so long, and never waiting for anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "computed"


def _insert(line: str) -> None:
    """A row that shows doubles: its name is another one each time."""
    Group.objects.create(name=f"{line} {uuid.uuid4()}")


def inserted(line: str) -> int:
    """How many rows were left by `_insert` under this line."""
    return Group.objects.filter(name__startswith=f"{line} ").count()


@shared_task(name="probe.insert", atomic=True)
def insert(path: str, line: str) -> str:
    """Two effects: a row in the transaction of the finish, and a line outside of it."""
    _insert(line)
    note(path, line)
    return line


@shared_task(bind=True, name="probe.insert_and", atomic=True, max_retries=3)
def insert_and(self: Any, path: str, line: str, then: str) -> str:
    """Inserts a row and calls another task, then fails, retries once, replaces itself or is ignored."""
    _insert(line)
    effect.delay(path, f"{line} called")
    if then == "fail":
        raise ValueError("after all")
    if then == "break":
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
    if then == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    if then == "replace":
        raise self.replace(insert.si(path, f"{line} replaced"))
    if then == "cut":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            note(f"{path}.pid", str(cursor.fetchone()[0]))
        while not os.path.exists(f"{path}.cut"):
            time.sleep(0.02)
    return line


@shared_task(name="probe.glance", durable=False, ignore_result=True)
def glance(path: str, line: str) -> None:
    note(path, line)


@shared_task(bind=True, name="probe.glance_again", durable=False, max_retries=1)
def glance_again(self: Any, path: str, line: str) -> None:
    note(path, f"{line} {self.request.retries}")
    if not self.request.retries:
        raise self.retry(countdown=0)


@shared_task(name="probe.hold_politely")
def hold_politely(path: str, until_exists: str) -> None:
    """Asks now and then whether it is to stop: for a pool that cannot end it."""
    note(path, "started")
    while not os.path.exists(until_exists):
        if is_cancel_requested():
            note(path, "stopped")
            raise Ignore
        time.sleep(0.05)
    note(path, "ended")


@shared_task(bind=True, name="probe.retry_at", max_retries=3)
def retry_at(self: Any, path: str, until_exists: str) -> None:
    """Waits for a file, then retries."""
    note(path, "started")
    while not os.path.exists(until_exists):
        time.sleep(0.02)
    raise self.retry(countdown=0)


@shared_task(name="probe.poison")
def poison(path: str) -> None:
    """Waits for somebody to run beside it, for two seconds, and kills the whole worker."""
    seen = len(noted(path))
    deadline = time.monotonic() + 2
    while len(noted(path)) == seen and time.monotonic() < deadline:
        time.sleep(0.02)
    note(f"{path}.poison", "once more")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="probe.bystander")
def bystander(path: str, line: str, seconds: float) -> None:
    """Takes a while; notes its start and its end."""
    note(path, f"{line} started")
    time.sleep(seconds)
    note(path, f"{line} ended")
