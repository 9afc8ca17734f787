"""The ledger's own work."""

from celery import shared_task

from app.taskruns import retention


@shared_task(queue="default", ignore_result=True)
def prune() -> int:
    """Delete what has ended long enough ago. Returns how many runs."""
    return retention.prune()
