"""Carries out bulk actions, batch by batch. A thread of each relay does this.

Each batch is a transaction with the action's row, which keeps how far it got. So a relay that is killed has done each
batch either whole or not at all, and another one continues. Several relays do not meet: each locks the row.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from contextlib import suppress

from django.contrib.admin.models import CHANGE
from django.contrib.auth import get_user_model
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models.functions import Now

from pressroom.bulk.kinds import KINDS, Kind, Result
from pressroom.bulk.orders import looked
from pressroom.database.errors import is_no_answer
from pressroom.models import BulkAction
from pressroom.operator_actions import record
from pressroom.process import kill_points
from pressroom.sql.run_filter import LOOKED_THROUGH
from pressroom.text import carried

logger = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks for orders."""
BATCH = 500
"""Runs that one transaction changes at most."""
MOST_REASONS = 20
"""How many different reasons an action keeps."""


class Executor:
    """Carries out what is ordered until ``stopping`` is set. Survives outages of Postgres."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def run(self) -> None:
        """Do one batch after the other, and wait for orders."""
        while not self._stopping.is_set():
            try:
                if work_once():
                    continue
            except Exception as error:
                if is_no_answer(error):
                    logger.warning("bulk actions wait, for Postgres did not answer: %s", str(error).strip())
                else:
                    logger.exception("the batch of a bulk action failed")
                connection.close()
            self._stopping.wait(POLL)
        connection.close()


def work_once() -> bool:
    """Do the next batch of the action that has waited the longest. Returns False if there is none.

    An error of a run counts for that run. Any other error ends the action. After one that cannot even be written down,
    the other actions have their turn first.
    """
    action = None
    try:
        with transaction.atomic():
            open_ones = BulkAction.objects.select_for_update(skip_locked=True, of=("self",)).filter(ended_at=None)
            action = open_ones.order_by("worked_at").first()
            if action is not None:
                _step_or_end(action)
    except Exception:
        if action is not None:
            with suppress(DatabaseError, InterfaceError):
                connection.close()
                BulkAction.objects.filter(pk=action.pk, ended_at=None).update(worked_at=Now())
        raise
    return action is not None


def _step_or_end(action: BulkAction) -> None:
    try:
        with transaction.atomic():
            _step(action)
    except Exception as error:
        if is_no_answer(error) or not connection.is_usable():
            raise
        logger.exception("the %s failed", action)
        text = carried(f"{type(error).__name__}: {error}")[:1_000]
        BulkAction.objects.filter(pk=action.pk).update(
            state=BulkAction.State.FAILED, error=text, ended_at=Now(), worked_at=Now()
        )
        _record(action, f"failed: {text}")


def _step(action: BulkAction) -> None:
    if action.state in (BulkAction.State.ORDERED, BulkAction.State.COUNTING):
        _count(action)
    else:
        _act(action)


def _count(action: BulkAction) -> None:
    found = looked(action, LOOKED_THROUGH)
    is_counted = found.end is None
    BulkAction.objects.filter(pk=action.pk).update(
        state=BulkAction.State.RUNNING if is_counted else BulkAction.State.COUNTING,
        total=action.total + found.count(),
        position=found.end,
        worked_at=Now(),
    )


def _act(action: BulkAction) -> None:
    found = looked(action, LOOKED_THROUGH)
    with connection.cursor() as cursor:
        cursor.execute(*found.newest(BATCH + 1, "found.id"))
        run_ids = [run_id for (run_id,) in cursor.fetchall()]
    position = found.end
    if len(run_ids) > BATCH:
        run_ids = run_ids[:BATCH]
        position = run_ids[-1]
    kind = KINDS[BulkAction.Kind(action.kind)]
    result, failed = _acted(kind, action, run_ids)
    action.done += result.done
    action.skipped += result.skipped.total()
    action.failed += failed.total()
    for reason, number in [*result.skipped.items(), *failed.items()]:
        known = reason[:300]
        if known in action.reasons or len(action.reasons) < MOST_REASONS:
            action.reasons[known] = action.reasons.get(known, 0) + number
    # What ended or changed between the count and its batch was not met.
    end = {"state": BulkAction.State.DONE, "ended_at": Now()} if position is None else {}
    BulkAction.objects.filter(pk=action.pk).update(
        done=action.done, skipped=action.skipped, failed=action.failed, reasons=action.reasons, position=position,
        worked_at=Now(), **end,
    )  # fmt: skip
    kill_points.reach("bulk.acted")
    if end:
        _record(action, f"{kind.done}: {action.summary}")


def _record(action: BulkAction, message: str) -> None:
    # An account that is deleted while its order is written leaves its key behind.
    users = get_user_model()._default_manager
    record(users.filter(pk=action.by_id).first() if action.by_id is not None else None, action, CHANGE, message)


def _acted(kind: Kind, action: BulkAction, run_ids: list[uuid.UUID]) -> tuple[Result, Counter[str]]:
    """Act on a batch; if that fails, on each run by itself. Returns the result, and how many runs failed why."""
    if not run_ids:
        return Result(), Counter()
    try:
        with transaction.atomic():
            return kind.act(action, run_ids), Counter()
    except Exception as error:
        if is_no_answer(error) or not connection.is_usable():
            raise
        logger.warning("a batch of the %s failed; trying again run by run: %s", action, carried(error))
    result, failed = Result(), Counter[str]()
    for run_id in run_ids:
        try:
            with transaction.atomic():
                one = kind.act(action, [run_id])
        except Exception as error:
            if is_no_answer(error) or not connection.is_usable():
                raise
            failed[carried(f"{type(error).__name__}: {error}")] += 1
        else:
            result.done += one.done
            result.skipped += one.skipped
    return result, failed
