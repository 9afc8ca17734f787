"""Repeat a write until Postgres has answered it, with longer and longer pauses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError

from pressroom.database.connections import start_afresh
from pressroom.database.errors import is_no_answer, is_passing

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_PAUSE = 5.0
"""Most seconds between two tries to reach Postgres."""
MOST_PASSING = 8
"""Tries of a statement that Postgres answers but cannot execute just now; they take a quarter of a minute."""


def outcome_is_unknown(error: Exception) -> bool:
    """Return whether the error leaves open if the statement took effect. The caller repeats it or looks it up."""
    return isinstance(error, SoftTimeLimitExceeded) or is_no_answer(error)


def until_written(write: Callable[[], T]) -> T:
    """Repeat a fenced statement, which is safe to repeat, until Postgres has answered it. Returns its result."""
    pause, passing, is_fresh = 0.0, 0, False
    while True:
        # The sleep is inside, because a soft time limit most often hits while we wait.
        try:
            if pause:
                start_afresh()
                time.sleep(pause)
            return write()
        except Exception as error:
            passing += is_passing(error)
            may_pass = (is_passing(error) and passing <= MOST_PASSING) or outcome_is_unknown(error)
            # Try any database error once more on a new connection: the task may have changed session settings.
            if not may_pass and (is_fresh or not isinstance(error, DatabaseError)):
                raise
            is_fresh = True
            logger.warning("Postgres did not answer; trying again: %s", error)
        pause = min(max(pause * 2, 0.1), LONGEST_PAUSE)
