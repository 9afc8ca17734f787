"""``revoke()`` and ``purge()`` on the ledger. Both also reach runs that wait in Postgres."""

from __future__ import annotations

import uuid
from typing import Any

from celery.app.control import Control
from celery.utils.functional import maybe_list

from pressroom.enqueue.arguments import is_id
from pressroom.execution import settle
from pressroom.models import WAITING, LiveRun, TaskRun
from pressroom.sql import runs

BATCH = 1_000
REFUSED = {
    "time_limit": "a task's time limits come from the code and from TASKRUNS_QUEUES, and each call carries its own: "
    "a running worker cannot change them"
}


class LedgerControl(Control):
    """Celery's remote control. Cancels calls that have a run in the ledger and broadcasts the rest."""

    def revoke(  # type: ignore[override]  # the stubs list the options
        self, task_id: Any, destination: Any = None, terminate: bool = False, **options: Any
    ) -> Any:
        """Cancel waiting runs. With ``terminate``, also kill the process of a running one, within a heartbeat."""
        # An id that no call can have has no run.
        ids = [one for one in maybe_list(task_id) or [] if is_id(one)]
        known = dict(LiveRun.objects.filter(celery_id__in=ids).values_list("celery_id", "pk"))
        for run_id in known.values():
            if not settle.revoke_waiting(run_id) and terminate:
                runs.cancel_running(run_id)
        others = [one for one in ids if one not in known and not TaskRun.objects.filter(celery_id=one).exists()]
        answers = None
        for start in range(0, len(others), BATCH):
            # Redis limits the length of a message.
            answers = super().revoke(
                others[start : start + BATCH], destination=destination, terminate=terminate, **options
            )
        return answers

    def broadcast(self, command: Any, *args: Any, **options: Any) -> Any:
        """Broadcast a command, as Celery's does. Raises NotImplementedError for commands that would have no effect."""
        if command in REFUSED:
            raise NotImplementedError(REFUSED[command])
        return super().broadcast(command, *args, **options)


def cancel_queue(queue: str) -> tuple[int, int]:
    """Cancel the waiting runs of a queue, one by one, as an operator would.

    Leaves alone the calls that are made meanwhile. Returns how many runs were cancelled, and how many of them had a
    message in Redis.
    """
    waiting = LiveRun.objects.filter(queue=queue, status__in=WAITING).order_by("pk")
    last = waiting.values_list("pk", flat=True).last()
    cancelled = published = 0
    position = uuid.UUID(int=0)
    while last is not None:
        rows = list(waiting.filter(pk__gt=position, pk__lte=last).values_list("pk", "published_at")[:BATCH])
        if not rows:
            break
        for run_id, published_at in rows:
            done = settle.revoke_waiting(run_id)
            cancelled += done
            published += done and published_at is not None
        position = rows[-1][0]
    return cancelled, published
