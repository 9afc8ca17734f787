"""What a slot reports to the worker's main process when it is done with a message."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ExecutedRun:
    """A run that the slot took from the ledger. The main process has no message of it and counts it from this."""

    celery_id: str
    name: str
    retries: int
    waited: float | None
    """Seconds from due to claimed; None if that is not known."""
    runtime: float
    """Seconds that the task took."""
    state: str | None
    """Celery's state of the run; None if the slot lost the claim."""
    error_type: str


@dataclasses.dataclass(frozen=True, slots=True)
class SlotReport:
    """Stands in for the text of the result where the slot has more to report than its message's own success.

    It travels through the pool as Celery's `trace_ok_t.retstr`, which the stubs declare as text. The worker's request
    takes it apart before Celery's own code reads that value.
    """

    text: str | None
    """The result of the message's own run, as Celery puts it into events."""
    is_dropped: bool = False
    """Whether the message's own attempt counts for nothing: the slot did not get the claim, or lost it."""
    others: tuple[ExecutedRun, ...] = ()
    """The runs that the slot took from the ledger after the message's own."""
