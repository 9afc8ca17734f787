"""How far a running task is, for ``GET /api/tasks/{id}/``."""

from app.taskruns import execution, ledger


def report_progress(current: int, total: int | None = None, message: str = "") -> None:
    """Say that ``current`` of ``total`` units are done. Outside a run of the ledger it does nothing.

    One small UPDATE: call it per chunk, not per item.
    """
    running = execution.current()
    if running is not None:
        ledger.progress(running.claim, current, total, message)
