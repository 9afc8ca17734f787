"""Tasks of the comparison with stock Celery: the same module under both applications."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Task, chain, chord, group, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.result import AsyncResult

from tests.support.notes import note


@shared_task(name="m.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@shared_task(name="m.mul")
def mul(x: int, y: int) -> int:
    return x * y


@shared_task(name="m.tsum")
def tsum(numbers: list[Any]) -> Any:
    return sum(numbers)


@shared_task(name="m.same")
def same(value: Any = None, **more: Any) -> Any:
    return [value, more] if more else value


@shared_task(name="m.fail")
def fail(*args: Any, **kwargs: Any) -> None:
    raise ValueError("wrong")


class OwnError(Exception):
    """An exception of the task's own, with two arguments."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)


@shared_task(name="m.fail_own")
def fail_own() -> None:
    raise OwnError(7, "seven")


@shared_task(name="m.noted")
def noted(path: str, line: str) -> str:
    note(path, line)
    return line


@shared_task(name="m.note_result")
def note_result(value: Any, path: str) -> Any:
    note(path, f"got {value!r}")
    return value


@shared_task(name="m.old_errback")
def old_errback(task_id: str, path: str) -> None:
    note(path, "old errback")


@shared_task(name="m.new_errback")
def new_errback(request: Any, exc: Any, traceback: Any, path: str) -> None:
    note(path, f"new errback {exc!r}")


@shared_task(bind=True, name="m.retries", max_retries=3)
def retries(self: Any, until: int) -> int:
    if self.request.retries < until:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@shared_task(bind=True, name="m.retry_exc", max_retries=1)
def retry_exc(self: Any) -> None:
    raise self.retry(exc=KeyError("k"), countdown=0.05)


@shared_task(bind=True, name="m.retry_args")
def retry_args(self: Any, n: int, word: str = "none") -> str:
    if n > 0:
        raise self.retry(args=[n - 1], kwargs={"word": word + "!"}, countdown=0.05)
    return word


@shared_task(
    name="m.autoretry", autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0.05, retry_backoff=False
)
def autoretry(path: str) -> None:
    note(path, "try")
    raise ValueError("auto")


@shared_task(bind=True, name="m.about")
def about(self: Any) -> dict[str, Any]:
    r = self.request
    return {
        "id": bool(r.id), "root": r.root_id == r.id, "parent": r.parent_id, "retries": r.retries, "args": r.args,
        "kwargs": r.kwargs, "eager": r.is_eager, "group": r.group, "called_directly": r.called_directly,
        "route": r.delivery_info["routing_key"], "ignore": bool(r.ignore_result),
    }  # fmt: skip


@shared_task(bind=True, name="m.ancestry")
def ancestry(self: Any, previous: Any = None) -> list[Any]:
    r = self.request
    return [*(previous or []), [r.root_id == r.id, r.parent_id is None]]


@shared_task(bind=True, name="m.headers")
def headers(self: Any) -> Any:
    return (self.request.headers or {}).get("colour")


@shared_task(bind=True, name="m.stamps")
def stamps(self: Any) -> Any:
    return self.request.stamps


@shared_task(bind=True, name="m.progress")
def progress(self: Any, gate: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 3})
    while not os.path.exists(gate):
        time.sleep(0.02)
    return "end"


@shared_task(bind=True, name="m.ignore_with_state")
def ignore_with_state(self: Any) -> None:
    self.update_state(state="CUSTOM", meta={"a": 1})
    raise Ignore


@shared_task(name="m.reject")
def reject() -> None:
    raise Reject("no", requeue=False)


@shared_task(bind=True, name="m.replace_task")
def replace_task(self: Any, x: int) -> Any:
    raise self.replace(add.s(x, 10))


@shared_task(bind=True, name="m.replace_chain")
def replace_chain(self: Any, x: int) -> Any:
    raise self.replace(chain(add.s(x, 10), mul.s(2), add.s(1)))


@shared_task(bind=True, name="m.replace_group")
def replace_group(self: Any, x: int) -> Any:
    raise self.replace(group(add.s(x, 1), add.s(x, 2)))


@shared_task(bind=True, name="m.replace_chord")
def replace_chord(self: Any, x: int) -> Any:
    raise self.replace(chord([add.s(x, 1), add.s(x, 2)], tsum.s()))


@shared_task(bind=True, name="m.replace_failing")
def replace_failing(self: Any) -> Any:
    raise self.replace(chain(add.s(1, 1), fail.s()))


@shared_task(bind=True, name="m.add_to_chord")
def add_to_chord(self: Any, x: int) -> int:
    self.add_to_chord(same.si(100))
    return x


@shared_task(name="m.launch_chain")
def launch_chain(path: str) -> None:
    chain(noted.si(path, "a"), noted.si(path, "b")).delay()


@shared_task(name="m.launch_chord")
def launch_chord(path: str) -> None:
    chord([add.s(1, 1), add.s(2, 2)], note_result.s(path)).delay()


@shared_task(name="m.launch_children")
def launch_children() -> int:
    add.delay(1, 1)
    add.delay(2, 2)
    return 0


@shared_task(name="m.sleep_soft", soft_time_limit=1)
def sleep_soft() -> str:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "slept"


@shared_task(name="m.sleep")
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@shared_task(name="m.silent", ignore_result=True)
def silent(path: str) -> str:
    note(path, "silent ran")
    return "unheard"


@shared_task(name="m.exit")
def leave() -> None:
    raise SystemExit(3)


class Hooked(Task):  # type: ignore[type-arg]
    """Notes its hooks."""

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        note(args[0], "before_start")

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        note(args[0], f"on_success {retval}")

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], f"on_failure {exc!r}")

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], "on_retry")

    def after_return(self, status: Any, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], f"after_return {status}")


@shared_task(base=Hooked, name="m.hooked", bind=True, max_retries=1)
def hooked(self: Any, path: str, how: str) -> str:
    if how == "fail":
        raise ValueError("wrong")
    if how == "retry" and not self.request.retries:
        raise self.retry(countdown=0.05)
    return "well"


class ByClass(Task):  # type: ignore[type-arg]
    """A task as a class."""

    name = "m.by_class"

    def run(self, x: int) -> int:
        return x + 1


@shared_task(bind=True, name="m.retry_no_throw", max_retries=1)
def retry_no_throw(self: Any, path: str) -> str:
    note(path, f"try {self.request.retries}")
    if not self.request.retries:
        self.retry(countdown=0.05, throw=False)
    return "went on"


@shared_task(bind=True, name="m.retry_longer", max_retries=1)
def retry_longer(self: Any) -> int:
    if self.request.retries < 3:
        raise self.retry(countdown=0.02, max_retries=5)
    return int(self.request.retries)


@shared_task(name="m.autoretry_but", autoretry_for=(Exception,), dont_autoretry_for=(ValueError,), max_retries=2)
def autoretry_but(path: str) -> None:
    note(path, "try")
    raise ValueError("not this one")


@shared_task(name="m.autoretry_kwargs", autoretry_for=(ValueError,), retry_kwargs={"max_retries": 1, "countdown": 0.05})
def autoretry_kwargs(path: str) -> None:
    note(path, "try")
    raise ValueError("auto")


@shared_task(name="m.throws", throws=(KeyError,))
def throws() -> None:
    raise KeyError("expected")


@shared_task(bind=True, name="m.shadow")
def shadow(self: Any) -> Any:
    return self.request.shadow


@shared_task(bind=True, name="m.wait_for")
def wait_for(self: Any, gate: str) -> str:
    while not os.path.exists(gate):
        time.sleep(0.02)
    return "waited"


@shared_task(name="m.pair")
def pair(a: Any, b: Any = "none") -> list[Any]:
    return [a, b]


@shared_task(bind=True, name="m.parent")
def parent(self: Any, previous: Any = None) -> Any:
    return self.request.parent_id


@shared_task(bind=True, name="m.app_id")
def app_id(self: Any) -> Any:
    return self.request.properties.get("app_id")


@shared_task(name="m.errback_that_looks")
def errback_that_looks(request: Any, exc: Any, traceback: Any, path: str) -> None:
    result = AsyncResult(request.id)
    note(path, f"{result.failed()} {type(exc).__name__} {bool(traceback)} {request.task}")


@shared_task(name="m.errback_that_calls")
def errback_that_calls(request: Any, exc: Any, traceback: Any, path: str) -> None:
    note_parent.delay(path, request.id)


@shared_task(bind=True, name="m.note_parent")
def note_parent(self: Any, path: str, expected: str) -> None:
    note(path, f"parent {self.request.parent_id == expected}")


@shared_task(bind=True, name="m.retry_waiting", max_retries=1)
def retry_waiting(self: Any, gate: str, with_error: bool) -> str:
    if not self.request.retries:
        raise self.retry(exc=OwnError(7, "seven") if with_error else None, countdown=2)
    return "done"
