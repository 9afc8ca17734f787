"""The ledger's own tasks."""

from typing import Any

from celery import current_app, shared_task

from pressroom import retention
from pressroom.execution import end_hooks


@shared_task(queue="default", ignore_result=True)
def prune() -> int:
    """Delete what is past its retention time. Returns how many runs were deleted."""
    return retention.prune()


@shared_task(
    queue="default", autoretry_for=(Exception,), retry_backoff=True, retry_backoff_max=600, max_retries=20,
    ignore_result=True,
)  # fmt: skip
def tell_end(end: dict[str, Any]) -> bool:
    """Call an ``on_end`` again that failed. Retries for about two hours. Returns whether the task has an ``on_end``."""
    restored = end_hooks.End(**end | {"outcome": end_hooks.Outcome(end["outcome"])})
    hook = end_hooks.hook_of(restored.name)
    if hook is not None:
        end_hooks.call_hook(hook, restored)
    return hook is not None


@shared_task(queue="default", ignore_result=True)
def call_errbacks(request: dict[str, Any], errbacks: list[Any], error: Any, traceback: str | None) -> None:
    """Call the errbacks of a failed task with its request, its error and its traceback."""
    backend: Any = current_app.backend  # the library's result backend, which the stubs take for Celery's
    backend.call_errbacks(request, errbacks, error, traceback)
