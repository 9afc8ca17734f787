"""Tasks whose hooks do an odd deed; which, the call says."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tests.odd.tasks.basic import effect
from tests.odd.tasks.outcomes import DEEDS

HOOKS = ["before_start", "on_success", "on_failure", "on_retry", "after_return"]


class HookedTask(Task):
    """Does the deed in the hook that its call names: ``(call, ending, hook, deed)``."""

    abstract = True

    def _hook(self, name: str, args: Any) -> None:
        if len(args) > 3 and args[2] == name:
            DEEDS[args[3]]()

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        self._hook("before_start", args)

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        self._hook("on_success", args)

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        self._hook("on_failure", args)

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        self._hook("on_retry", args)

    def after_return(self, status: Any, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        self._hook("after_return", args)


def _hooked(self: Any, call: str, ending: str, hook: str, deed: str) -> None:
    if ending == "retries" and not self.request.retries:
        raise self.retry(countdown=0, max_retries=1)
    effect(call, "odd")
    if ending == "fails":
        raise KeyError("the body's own")


HOOKED = {
    way: shared_task(name=f"odd.hooked.{way}", base=HookedTask, bind=True, atomic=atomic)(_hooked)
    for way, atomic in {"atomic": True, "free": False}.items()
}
