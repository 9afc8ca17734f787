"""A run executed in this process, as a worker would; and the ways in which a run ends without one."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

from celery import current_app
from celery.app.trace import build_tracer
from django.utils import timezone

from app.queues import BY_NAME
from pressroom import operator_actions
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import attempt, settle
from pressroom.models import TaskRun
from pressroom.sql import runs, workers
from tests.support.ledger_rows import change_run


def claimed(run: TaskRun) -> runs.Claim:
    claim = runs.claim(run.pk, uuid.uuid4(), workers.register("test@here", "[]", 1))
    assert claim is not None
    return claim


def execute(run: TaskRun) -> TaskRun:
    """Claim, trace and finish it."""
    task = current_app.tasks[run.name]
    headers, (args, kwargs, embed) = json.loads(run.headers), json.loads(run.body)
    worker = workers.register("test@here", "[]", 1)
    ours = {"id": str(run.pk), "claim": str(uuid.uuid4()), "worker": worker, "limited": None, "revoked": []}
    request: dict[str, Any] = {
        **headers, **embed, HEADER: headers[HEADER] | ours, "args": args, "kwargs": kwargs, "delivery_info": {},
        "hostname": "test@here", "is_eager": False,
    }  # fmt: skip
    tracer = build_tracer(task.name, task, app=current_app)
    attempt.execute(task, tracer, run.celery_id, args, kwargs, request)
    run.refresh_from_db()
    return run


# ---- Ways to end without success ---------------------------------------------------------------------------------


def cancelled(run: TaskRun) -> None:
    operator_actions.run_cancel(run=run, user=None)


def cancelled_while_it_runs(run: TaskRun) -> None:
    claim = claimed(run)
    operator_actions.run_cancel(run=run, user=None)
    assert settle.revoke_claimed(run.pk, claim.token, only_if_requested=True)


def expired(run: TaskRun) -> None:
    change_run(run.pk, expires_at=timezone.now() - timedelta(seconds=1))
    assert settle.expire_overdue()


def failed(run: TaskRun) -> None:
    assert settle.fail_claimed(claimed(run), KeyError("x"))


def lost_too_often(run: TaskRun) -> None:
    for _ in range(BY_NAME[run.queue].max_attempts):
        assert settle.record_lost_attempt(run.pk, claimed(run).token)


def unknown_to_workers(run: TaskRun) -> None:
    change_run(run.pk, unknown_since=timezone.now() - timedelta(days=1))
    assert settle.defer_unknown_task(run.pk, run.name)


def taken_by_no_worker(run: TaskRun) -> None:
    assert settle.fail_unclaimed(run.pk, ValueError("too large"))


def discarded(run: TaskRun) -> None:
    failed(run)
    operator_actions.run_discard(run=run, user=None)


WAYS = (
    cancelled, cancelled_while_it_runs, expired, failed, lost_too_often, unknown_to_workers, taken_by_no_worker,
    discarded,
)  # fmt: skip
