"""The ledger's own work."""

from typing import Any

from celery import current_app, shared_task

from pressroom import retention
from pressroom.execution import end_hooks


@shared_task(queue="default", ignore_result=True)
def prune() -> int:
    """Delete what has ended long enough ago. Returns how many runs."""
    return retention.prune()


@shared_task(
    queue="default", autoretry_for=(Exception,), retry_backoff=True, retry_backoff_max=600, max_retries=20,
    ignore_result=True,
)  # fmt: skip
def tell_end(end: dict[str, Any]) -> bool:
    """Tell once more of an end whose ``on_end`` failed; for about two hours. Returns whether somebody waits for it."""
    told = end_hooks.End(**end | {"outcome": end_hooks.Outcome(end["outcome"])})
    hook = end_hooks.hook_of(told.name)
    if hook is not None:
        end_hooks.call_hook(hook, told)
    return hook is not None


@shared_task(queue="default", ignore_result=True)
def call_errbacks(request: dict[str, Any], errbacks: list[Any], error: Any, traceback: str | None) -> None:
    """Call the errbacks of a task that failed, which take its request, its error and its traceback."""
    backend: Any = current_app.backend  # ours, which the stubs take for Celery's
    backend.call_errbacks(request, errbacks, error, traceback)
