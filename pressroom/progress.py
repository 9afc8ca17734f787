"""What a running task reports and asks: its progress, and whether somebody requested its cancellation."""

import uuid

from pressroom import context
from pressroom.models import EndedRun, LiveRun
from pressroom.sql import runs
from pressroom.text import carried


def report_progress(current: int, total: int | None = None, message: str = "") -> None:
    """Report that ``current`` of ``total`` units are done. Does nothing outside a run of the ledger.

    Costs one small UPDATE: call it for each chunk, not for each item. Raises ValueError for a value that is not a
    number of units.
    """
    running = context.current()
    if running is None:
        return
    current, total, message = _unit(current), None if total is None else _unit(total), carried(message)
    if running.atomic:
        # Written at the finish, so that the body holds no lock on the row. Nobody could see it before that anyway.
        running.progress = current, total, message
    else:
        runs.progress(running.claim, current, total, message)


def is_cancel_requested() -> bool:
    """Return whether somebody requested the cancellation of the current run. Returns False outside a run of the ledger.

    The worker stops a process or a greenlet by force, but it cannot stop a thread. Call this in a long task that runs
    in a thread, once for each chunk, and ``raise Ignore()`` if it returns True: the run is then cancelled. Costs one
    small SELECT.
    """
    running = context.current()
    return running is not None and runs.is_cancel_requested(running.claim)


def report_progress_of(run_id: uuid.UUID, current: int, total: int | None = None, message: str = "") -> None:
    """Report the progress of a run that other tasks replaced (`replace`). One of those calls it."""
    for found in (LiveRun, EndedRun):
        found.objects.filter(pk=run_id).update(
            progress_current=_unit(current), progress_total=total, progress_message=carried(message)
        )


def _unit(number: float) -> int:
    try:
        whole = int(number)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{number!r} is not a number of units") from error
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"Postgres cannot store {whole} units: a bigint has 64 bits")
    return whole
