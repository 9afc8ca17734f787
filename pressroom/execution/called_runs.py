"""What a task does with runs that it has called: cancel them, or have one that waits start at once."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from django.db import transaction

from pressroom.enqueue.wakeup import waker
from pressroom.execution import settle
from pressroom.models import LiveRun
from pressroom.sql import runs


def cancel_called(celery_ids: Collection[str]) -> int:
    """Cancel those of the calls with these Celery ids that have not ended. Returns how many.

    A waiting run never starts. The process of a running one is killed within a heartbeat. All of them are cancelled in
    one transaction, so pass some hundred ids at most.
    """
    with transaction.atomic():
        live = LiveRun.objects.filter(celery_id__in=list(celery_ids)).order_by("pk").values_list("pk", flat=True)
        return sum(map(cancel_run, list(live)))


def cancel_run(run_id: uuid.UUID) -> bool:
    """Cancel a run: a waiting one never starts, the process of a running one is killed within a heartbeat.

    Returns False if the run has ended.
    """
    while not (settle.revoke_waiting(run_id) or runs.cancel_running(run_id)):
        # Between the two looks, a running one may have come to wait: for a retry, or because it replaced itself.
        if not LiveRun.objects.filter(pk=run_id).exists():
            return False
    return True


def start_at_once(celery_id: str) -> bool:
    """Make the call with this Celery id due now if it waits for a later time. Returns whether it did.

    A task that waits for others (``raise self.replace(self.si(…).set(countdown=60))``) goes on as soon as one of them
    calls this.
    """
    with transaction.atomic():
        is_waiting = runs.make_due(celery_id)
        if is_waiting:
            transaction.on_commit(waker.wake)
    return is_waiting
