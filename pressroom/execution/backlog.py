"""In a backlog, a slot that has executed a short run takes the next ones directly from the ledger.

These runs bypass the relay, Redis and the worker's main process. One statement writes the end of a run and claims the
next: see docs/decisions/0016.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from functools import partial
from typing import Any

from celery import states
from celery.app.trace import build_tracer, trace_ok_t
from django.db import transaction
from greenlet import GreenletExit  # type: ignore[import-untyped]  # ships no types
from kombu.utils.json import loads

from pressroom.database.backoff import until_written
from pressroom.database.connections import give_back, prepare_connection, start_afresh
from pressroom.enqueue.envelope import HEADER
from pressroom.execution import settle
from pressroom.execution.attempt import Attempt, log_lost, perform, write_end
from pressroom.execution.execution import Execution
from pressroom.execution.outcome import AttemptOutcome
from pressroom.execution.slot_report import ExecutedRun, SlotReport
from pressroom.process import kill_points
from pressroom.sql import backlog, runs

logger = logging.getLogger(__name__)

WAITED = 0.01
"""Seconds that a run must have waited for the slot to assume a backlog."""
LONGEST = 0.1
"""Seconds that one message may occupy a slot while other messages wait in Redis."""
SHORT = LONGEST / 2
"""Seconds. Runs of a task that took longer come as messages, so that the main process knows of them from the start."""
_took: dict[str, float] = {}
"""Seconds that the last success of each task took in this process, by the task's name."""


def follow(task: Any, request: dict[str, Any], traced: trace_ok_t, began: float) -> trace_ok_t:
    """Run more of a backlog after a run that began at ``began`` (monotonic) and succeeded.

    Returns ``traced``, or the same with a `SlotReport` that lists the other runs. Nothing that happens here changes
    the outcome of the message's own run.
    """
    header = request[HEADER]
    if traced.info is not None or isinstance(traced.retstr, SlotReport):
        # It did not succeed, or was dropped.
        return traced
    _took[task.name] = time.monotonic() - began
    if header["waited"] < WAITED or type(header.get("priority")) is not int:
        # It hardly waited, or a release before this one has sent the message.
        return traced
    if header["limited"] is None or task.name in header["limited"] or not task.bundle:
        return traced
    others: list[ExecutedRun] = []
    try:
        Bundle(task, request, began, others).run()
    except Exception:
        logger.exception("the slot takes no more runs after %s[%s]", task.name, header["id"])
    report = SlotReport(traced.retstr, others=tuple(others))
    return traced._replace(retstr=report)  # type: ignore[arg-type]  # see SlotReport


class Bundle:
    """Executes runs one after the other under the claim token of the message's own run. Appends each to ``ran``."""

    def __init__(self, task: Any, request: dict[str, Any], began: float, ran: list[ExecutedRun]) -> None:
        header = request[HEADER]
        self._ran = ran
        self._task = task
        self._request = request
        self._worker_id = header["worker"]
        self._token = runs.Claim.of(header).token
        self._queue, self._priority = request["delivery_info"]["routing_key"], header["priority"]
        tasks, limited = task.app.tasks, header["limited"]
        self._revoked: list[str] = header["revoked"]
        self._names = [
            name
            for name, seconds in list(_took.items())
            if seconds < SHORT and tasks[name].bundle and name not in limited
        ]
        # The text that the headers must contain: the slot takes only runs with the time limits of the message's own
        # run, because the pool enforces those.
        self._limits = json.dumps({"timelimit": request["timelimit"]})[1:-1]
        self._began = began
        self._held: list[_BundledRun] = []
        self._performed: uuid.UUID | None = None

    def run(self) -> None:
        """Execute runs until there are no more or the time is up."""
        try:
            while taken := self._finish_and_claim(self._room()):
                for index, one in enumerate(taken):
                    if index:
                        if time.monotonic() >= self._began + LONGEST:
                            self._leave()
                            return
                        prepare_connection()
                    self._perform(one)
                if taken[-1].claim.waited < WAITED:
                    # The backlog is over. What is in Redis has waited for longer.
                    self._finish_and_claim(0)
                    return
        except BaseException as error:
            # The run was ended from outside, perhaps in the middle of a statement.
            start_afresh()
            # For any other error (SystemExit, a greenlet's limit) the main process decides about the run it hit.
            self._leave(None if isinstance(error, Exception | GreenletExit) else self._performed)
            raise
        finally:
            give_back()

    def _room(self) -> int:
        """Return how many more runs there is time for, if they take as long as those before."""
        now = time.monotonic()
        each = (now - self._began) / (1 + len(self._ran) + len(self._held))
        most: int = self._task.bundle
        return max(0, min(most, int((self._began + LONGEST - now) / each)))

    def _leave(self, but: uuid.UUID | None = None) -> None:
        """Write the runs that have ended and release all others, except ``but``."""
        self._finish_and_claim(0)

        def release() -> None:
            with transaction.atomic():
                runs.release(self._worker_id, token=self._token, but=but)
                if but is None:
                    # Those that are still claimed have a cancel request.
                    settle.record_lost_bundle(self._worker_id, self._token)

        until_written(release)

    def _finish_and_claim(self, most: int) -> list[backlog.ClaimedRun]:
        """Write the ends that were held back, and claim up to ``most`` other runs."""
        held, self._held = self._held, []
        if not held and not most:
            return []
        prepare_connection()
        names = self._names if most == 1 else [self._task.name]

        def write() -> tuple[set[uuid.UUID], list[backlog.ClaimedRun]]:
            now = time.monotonic()
            successes = [one.as_success(now) for one in held]
            return backlog.finish_and_claim(
                self._token, self._worker_id, self._queue, self._priority, successes, names, self._revoked,
                self._limits, most,
            )  # fmt: skip

        try:
            ended, taken = until_written(write)
        except Exception:
            # Postgres refuses one of them. Write each on its own; the refused one then fails.
            for one in held:
                write_end(one.running, one.outcome)
                self._note(one)
            raise
        # A body may be slow and need no connection, as in `attempt.execute`.
        give_back()
        if taken:
            kill_points.reach("worker.claimed_next")
        for one in held:
            claim = one.running.claim
            # If the answer to the first try was lost, ask the ledger.
            if claim.run_id in ended or until_written(partial(runs.ended, claim)):
                one.running.committed()
            else:
                log_lost(one.running)
            self._note(one)
        return taken

    def _perform(self, taken: backlog.ClaimedRun) -> None:
        self._task = task = self._task.app.tasks[taken.name]
        if task.celery_tracer is None:  # Celery does the same in pools that fork no child.
            task.__trace__ = build_tracer(task.name, task, app=task.app)
        request = self._request_of(taken)
        one = _BundledRun(Execution(taken.claim, taken.celery_id, task, request))
        self._performed = taken.claim.run_id

        def finish(running: Execution, outcome: AttemptOutcome) -> None:
            if outcome.state == states.SUCCESS and running.is_plain:
                self._held.append(one)
            else:
                write_end(running, outcome)

        one.end(
            perform(
                one.running,
                lambda: task.celery_tracer(taken.celery_id, request["args"], request["kwargs"], request),
                finish,
            )
        )
        if not self._held or self._held[-1] is not one:
            self._note(one)

    def _note(self, one: _BundledRun) -> None:
        failure = one.outcome.failure
        if failure is None:
            _took[one.running.task.name] = one.ended - one.began
        self._ran.append(
            ExecutedRun(
                celery_id=one.running.celery_id,
                name=one.running.task.name,
                retries=one.running.request.get("retries", 0),
                waited=one.running.claim.waited,
                runtime=one.ended - one.began,
                state=None if one.running.is_lost else one.outcome.state,
                error_type=failure.error_type if failure and not one.outcome.requeue else "",
            )
        )

    def _request_of(self, taken: backlog.ClaimedRun) -> dict[str, Any]:
        """Return the request that the main process would make of the run's message."""
        properties = loads(taken.properties)
        args, kwargs, embed = loads(taken.body)
        request: dict[str, Any] = loads(taken.headers)
        ours = {name: self._request[HEADER][name] for name in ("claim", "worker", "limited", "revoked", "hard_limit")}
        header = request[HEADER] | ours
        request |= {
            HEADER: header | {"id": str(taken.claim.run_id)},
            "eta": header["eta"],
            "expires": taken.claim.expires_at.isoformat() if taken.claim.expires_at else None,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "hostname": self._request["hostname"],
            "delivery_info": self._request["delivery_info"] | {"redelivered": False},
            "args": args,
            "kwargs": kwargs,
            "is_eager": False,
        }
        return request | (embed or {})


class _BundledRun:
    """A run of the bundle, with the times (monotonic) when it began and ended."""

    def __init__(self, running: Execution) -> None:
        self.running = running
        self.began = self.ended = time.monotonic()
        self.outcome = AttemptOutcome(states.SUCCESS)

    def end(self, attempt: Attempt) -> None:
        self.ended = time.monotonic()
        if attempt.outcome is not None:
            self.outcome = attempt.outcome

    def as_success(self, now: float) -> backlog.SuccessToWrite:
        """Return the success that a statement at ``now`` (monotonic) writes."""
        running = self.running
        return backlog.SuccessToWrite(
            running.claim, running.result, running.children, now - self.began, now - self.ended
        )
