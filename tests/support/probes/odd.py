"""Tasks and handlers that do odd things. Loaded into a worker, it prints what Celery's signals say."""

import asyncio
import json
import os
import sys
from typing import Any

from celery import Task, shared_task
from celery.signals import task_failure, task_postrun, task_prerun, task_revoked, task_success
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, transaction

from pressroom.process import kill_points
from tests.support.notes import note, noted
from tests.support.probes import tasks


class Calling(Task):
    """As Celery's guide has it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


@shared_task(bind=True, base=Calling, name="odd.insert_and_fail", atomic=True)
def insert_and_fail(self: Any, line: str) -> None:
    Group.objects.create(name=line)
    raise ValueError("after all")


@shared_task(bind=True, base=Calling, name="odd.tell_state")
def tell_state(self: Any, path: str, until_exists: str) -> None:
    self.update_state(state="HALFWAY", meta={"done": 1})
    tasks.hold.run(path, "it", until_exists)


class Hooked(Task):
    """Each of its hooks fails."""

    def on_success(self, *args: Any) -> None:
        raise KeyError("on_success")

    def on_failure(self, *args: Any) -> None:
        raise KeyError("on_failure")

    def on_retry(self, *args: Any) -> None:
        raise KeyError("on_retry")

    def after_return(self, *args: Any) -> None:
        raise KeyError("after_return")


@shared_task(bind=True, base=Hooked, name="odd.hooked", max_retries=3)
def hooked(self: Any, path: str, then: str) -> str:
    note(path, then)
    if then == "fail":
        raise ValueError("its own error")
    if then == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    return then


@shared_task(name="odd.insert", atomic=True)
def insert(line: str) -> None:
    """`after_or_before` does to its transaction what the line says."""
    Group.objects.create(name=line)


@task_prerun.connect
@task_postrun.connect
def after_or_before(task: Any = None, args: Any = None, **_: Any) -> None:
    if task is None or task.name != "odd.insert":
        return
    Group.objects.filter(name="nobody's").count()
    if "close" in args[0]:
        connection.close()
    if "break" in args[0]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
    if "open" in args[0]:
        transaction.atomic().__enter__()


@shared_task(name="odd.run_out_of_memory")
def run_out_of_memory() -> None:
    raise MemoryError("not so much")


@shared_task(name="odd.is_cancelled")
def is_cancelled() -> None:
    raise asyncio.CancelledError


@shared_task(name="odd.undecodable_error", bind=True, autoretry_for=(ValueError,), max_retries=1, retry_backoff=False,
             default_retry_delay=0)  # fmt: skip
def undecodable_error(self: Any, path: str) -> None:
    note(path, str(self.request.retries))
    raise ValueError(os.fsdecode(b"caf\xe9.txt"))


@shared_task(name="odd.die_once")
def die_once(path: str) -> str:
    note(path, "here")
    if len(noted(path)) == 1:
        os.kill(os.getpid(), 9)
    return "done"


@shared_task(name="odd.delete_owner")
def delete_owner(path: str, user_id: int) -> None:
    get_user_model().objects.filter(pk=user_id).delete()
    tasks.effect.delay(path, "next")


@shared_task(name="odd.not_json", atomic=True)
def not_json(line: str) -> Any:
    Group.objects.create(name=line)
    return object()


@shared_task(name="odd.leave_atomic", atomic=True)
def leave_atomic(line: str, then: str) -> None:
    """Leave an atomic block open, and perhaps lose the connection or fail."""
    transaction.atomic().__enter__()
    Group.objects.create(name=line)
    if then == "cut":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    if then == "fail":
        raise ValueError("after all")


@shared_task(name="odd.watched")
def watched(path: str, then: str) -> None:
    """`end_or_cut` does what ``then`` says, before the body or after its failure."""
    Group.objects.count()
    note(path, "done")
    if then == "exit":
        os.kill(os.getpid(), 9)


@task_prerun.connect
@task_failure.connect
def end_or_cut(sender: Any = None, args: Any = None, exception: Any = None, **_: Any) -> None:
    if getattr(sender, "name", "") != "odd.watched":
        return
    if exception is not None:
        sys.exit(3)
    if args[1] == "cancel":
        raise asyncio.CancelledError
    if args[1] == "cut":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@shared_task(name="odd.give")
def give(what: str) -> Any:
    return {"deep": json.loads("[" * 90 + "]" * 90), "surrogate": "\ud83d", "nan": float("nan"), "inf": -float("inf")}[
        what
    ]


@shared_task(name="odd.errback")
def errback(path: str, *_: Any) -> None:
    note(path, "told")


@shared_task(name="odd.kills_before_its_claim")
def kills_before_its_claim() -> None:
    """Never begun: see `reach`."""


def _say(what: str, sender: Any, **fields: Any) -> None:
    print(f"signal {what} of {getattr(sender, 'name', sender)}", flush=True)


for _name, _signal in (("success", task_success), ("failure", task_failure), ("revoked", task_revoked)):
    _signal.connect(lambda sender=None, _what=_name, **fields: _say(_what, sender), weak=False)


def reach(point: str) -> None:
    """With KILL_AT a worker's main process dies when it has received a message, as of one that it cannot survive."""
    if point == "worker.received" and (path := os.environ.get("KILL_WHILE")) and os.path.exists(path):
        os._exit(3)


kill_points.reach = reach
