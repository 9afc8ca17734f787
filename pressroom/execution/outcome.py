"""Derive the outcome of an attempt from what Celery's tracer returned or raised."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.trace import trace_ok_t
from celery.exceptions import Reject, Retry

from pressroom.sql import runs
from pressroom.text import carried

CELERY_STATES = {
    "queued": states.PENDING,
    "running": states.STARTED,
    "retrying": states.RETRY,
    "succeeded": states.SUCCESS,
    "dead": states.FAILURE,
    "cancelled": states.REVOKED,
    "expired": states.REVOKED,
    "replaced": states.STARTED,
}
"""Celery's state for each status of a run."""


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended."""

    state: str
    """Celery's state."""
    failure: runs.Failure | None = None
    requeue: bool = False
    """The task handed its message back, so the run becomes due again."""


def outcome_of(traced: trace_ok_t) -> AttemptOutcome:
    """Return the outcome that the tracer's return value describes."""
    einfo = traced.retval if isinstance(traced.retval, ExceptionInfo) else None
    if traced.info is None:
        return (
            AttemptOutcome(states.FAILURE, _from_einfo(einfo)) if einfo is not None else AttemptOutcome(states.SUCCESS)
        )
    state, error = traced.info.state, traced.info.retval
    if state == states.IGNORED:
        return AttemptOutcome(state)
    if isinstance(error, Retry):
        return AttemptOutcome(state, describe(error.exc or error, einfo))
    return AttemptOutcome(
        state, describe(error, einfo), isinstance(error, Reject) and bool(getattr(error, "requeue", False))
    )


def info_of(error: BaseException) -> ExceptionInfo:
    """Return the error with a traceback, in the form that Celery passes around."""
    if error.__traceback__ is None:
        with suppress(BaseException):
            raise error
    return ExceptionInfo((type(error), error, error.__traceback__))


def describe(error: BaseException | None, einfo: ExceptionInfo | None = None) -> runs.Failure:
    """Return an exception in the form that the ledger keeps."""
    return runs.Failure(type(error).__name__, carried(error), str(einfo.traceback) if einfo is not None else "")


def _from_einfo(einfo: ExceptionInfo) -> runs.Failure:
    return runs.Failure(getattr(einfo.type, "__name__", "Exception"), carried(einfo.exception), str(einfo.traceback))
