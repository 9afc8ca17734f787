"""A task whose signals' handlers do an odd deed; which, the call says. Handlers of others' signals do nothing."""

from __future__ import annotations

from typing import Any

from celery import shared_task, signals

from tests.odd.tasks.basic import effect
from tests.odd.tasks.outcomes import DEEDS

SIGNALS = ["task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"]


def _handler(name: str) -> Any:
    def handle(sender: Any = None, **given: Any) -> None:
        if not getattr(sender, "name", "").startswith("odd.watched"):
            return
        args = given.get("args") or getattr(getattr(sender, "request", None), "args", None) or ()
        if len(args) > 3 and args[2] == name:
            DEEDS[args[3]]()

    return handle


for _name in SIGNALS:
    getattr(signals, _name).connect(_handler(_name), weak=False, dispatch_uid=f"odd.{_name}")


def _watched(self: Any, call: str, ending: str, signal: str, deed: str) -> None:
    if ending == "retries" and not self.request.retries:
        raise self.retry(countdown=0, max_retries=1)
    effect(call, "odd")
    if ending == "fails":
        raise KeyError("the body's own")


WATCHED = {
    way: shared_task(name=f"odd.watched.{way}", bind=True, atomic=atomic)(_watched)
    for way, atomic in {"atomic": True, "free": False}.items()
}
