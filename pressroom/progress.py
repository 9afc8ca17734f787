"""What a running task tells of itself, and is told."""

import uuid

from pressroom import context
from pressroom.models import TaskRun
from pressroom.sql import runs
from pressroom.text import carried


def report_progress(current: int, total: int | None = None, message: str = "") -> None:
    """Say that ``current`` of ``total`` units are done. Outside a run of the ledger it does nothing.

    One small UPDATE: call it per chunk, not per item. Raises ValueError for numbers that are none of units.
    """
    running = context.current()
    if running is None:
        return
    current, total, message = _unit(current), None if total is None else _unit(total), carried(message)
    if running.atomic:
        # Not its row, which would be locked until the task ends. Others see nothing of it before that anyway.
        running.progress = current, total, message
    else:
        runs.progress(running.claim, current, total, message)


def is_cancel_requested() -> bool:
    """Whether somebody wants the running task to stop.

    Processes and greenlets are ended without asking. A thread cannot be: a long task there asks, per chunk, and ends
    by ``raise Ignore()``, which makes it cancelled. One small SELECT; False outside a run of the ledger.
    """
    running = context.current()
    return running is not None and runs.is_cancel_requested(running.claim)


def report_progress_of(run_id: uuid.UUID, current: int, total: int | None = None, message: str = "") -> None:
    """The same for a run whose place other tasks took (`replace`), told by one of them."""
    TaskRun.objects.filter(pk=run_id).update(
        progress_current=_unit(current), progress_total=total, progress_message=carried(message)
    )


def _unit(number: float) -> int:
    try:
        whole = int(number)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{number!r} is no number of units") from error
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{whole} units are more than Postgres can count")
    return whole
