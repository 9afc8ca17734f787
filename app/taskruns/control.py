"""``result.revoke()`` and ``app.control.revoke()`` on the ledger: true for a task that waits, too."""

from __future__ import annotations

from typing import Any

from celery.app.control import Control
from celery.utils.functional import maybe_list

from app.taskruns import ends, terminal
from app.taskruns.models import LIVE, TaskRun


class LedgerControl(Control):
    """Celery's remote control. What has a run is cancelled there; the rest is broadcast as ever."""

    def revoke(  # type: ignore[override]  # the stubs list the options
        self, task_id: Any, destination: Any = None, terminate: bool = False, **options: Any
    ) -> Any:
        """A waiting task never begins. With ``terminate`` a running one's process is killed within a heartbeat."""
        ids = list(maybe_list(task_id) or [])
        known = dict(TaskRun.objects.filter(celery_id__in=ids, status__in=LIVE).values_list("celery_id", "pk"))
        for run_id in known.values():
            if not terminal.cancel_waiting(run_id) and terminate:
                ends.cancel_running(run_id)
        others = [one for one in ids if one not in known and not TaskRun.objects.filter(celery_id=one).exists()]
        if not others:
            return None
        return super().revoke(others, destination=destination, terminate=terminate, **options)
