"""The ledger's own work."""

from typing import Any

from celery import current_app, shared_task

from app.taskruns import retention


@shared_task(queue="default", ignore_result=True)
def prune() -> int:
    """Delete what has ended long enough ago. Returns how many runs."""
    return retention.prune()


@shared_task(queue="default", ignore_result=True)
def call_errbacks(request: dict[str, Any], errbacks: list[Any], error: Any, traceback: str | None) -> None:
    """Call the errbacks of a task that failed, which take its request, its error and its traceback."""
    backend: Any = current_app.backend  # ours, which the stubs take for Celery's
    backend.call_errbacks(request, errbacks, error, traceback)
