"""Base classes with a ``__call__`` of their own, as Celery's guide shows them, and odder ones."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task
from django.db import transaction

from tests.odd.tasks.basic import effect


class CallsRun(Task):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class CallsSuper(Task):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class CallsTwice(Task):
    """The second time instead of the first: what that wrote is rolled back."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with transaction.atomic():
                self.run(*args, **kwargs)
                raise LookupError("undone")
        except LookupError:
            return self.run(*args, **kwargs)


class Translates(Task):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.run(*args, **kwargs)
        except KeyError as error:
            raise ValueError("translated") from error


class Swallows(Task):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.run(*args, **kwargs)
        except Exception:
            return "swallowed"


class OwnAtomic(Task):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic(durable=False):
            return self.run(*args, **kwargs)


class NoCall(Task):
    """Nothing of the body is run."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return None


class OddAttributes(Task):
    """Reading an attribute that it does not have fails in its own way."""

    abstract = True

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no {name} \ud83d")


BASES = [CallsRun, CallsSuper, CallsTwice, Translates, Swallows, OwnAtomic, NoCall, OddAttributes]
ENDINGS = ["returns", "fails", "updates", "retries"]


def _body(self: Any, call: str, ending: str) -> None:
    if ending == "retries" and not self.request.retries:
        effect(call, "undone")
        raise self.retry(countdown=0, max_retries=1)
    effect(call, "odd")
    if ending == "updates":
        self.update_state(state="PROGRESS", meta={"half": True})
    if ending == "fails":
        raise KeyError("the body's own")


BASED = {
    f"{base.__name__} {way}": shared_task(
        name=f"odd.based.{base.__name__}.{way}", base=base, bind=True, atomic=way == "atomic"
    )(_body)
    for base in BASES
    for way in ("atomic", "free")
}
