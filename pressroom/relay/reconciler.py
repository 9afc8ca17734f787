"""The reconciler corrects the ledger where workers have died, messages are gone from Redis or runs have expired."""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable

import redis
from celery import current_app
from django.conf import settings
from django.db import connection

from pressroom.conf import WINDOW_LEAST, WINDOW_MOST, WINDOW_PER_SLOT, declared_queues
from pressroom.database.errors import is_no_answer
from pressroom.database.redis import is_away
from pressroom.enqueue.broker import prefixed
from pressroom.enqueue.envelope import run_id_in
from pressroom.enqueue.limits import sync
from pressroom.execution import settle
from pressroom.relay.counting import EndedRunCounter
from pressroom.sql import dispatch, limits, workers

logger = logging.getLogger(__name__)


class Reconciler:
    """Finds dead workers, messages that are gone from Redis and runs past their expiry.

    A worker is dead if its heartbeat has not changed for TASKRUNS_SILENCE seconds. This process measures them with its
    monotonic clock. Time in which Postgres or this process did not answer does not count, and after it the worker has
    HEARTBEATS_AFTER_GAP heartbeats to give a sign. A process that has just started takes the time before its first
    look from Postgres's clock, and then waits as long.
    """

    EVERY = 1.0
    """Seconds between two passes."""
    SYNC_EVERY = 10.0
    """Seconds between two looks at the limits of the code."""
    REOPEN_EVERY = 60.0
    """Seconds between two looks for free places without a note."""
    LONGEST_GAP = 5.0
    """Seconds between two passes after which the time between them does not count."""
    HEARTBEATS_AFTER_GAP = 2.5
    """Heartbeats for which a worker is watched at least after such a gap, or from this process's first look."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client
        self.counter = EndedRunCounter()
        self._last_pass = float("-inf")
        self._last_look = float("-inf")
        self._last_sync = float("-inf")
        self._last_reopen = float("-inf")
        self._watched_at = float("-inf")
        """When `watch_workers` last looked (monotonic)."""
        self._seen: dict[int, tuple[datetime.datetime, float]] = {}
        """The last heartbeat of each worker, and since when it has not changed (monotonic)."""
        self._slots: dict[str, int] = {}

    def windows(self) -> dict[str, int]:
        """Return each queue's window: how many messages may be in Redis."""
        return {
            queue.name: min(WINDOW_MOST, max(WINDOW_LEAST, WINDOW_PER_SLOT * self._slots.get(queue.name, 0)))
            for queue in declared_queues().values()
        }

    def tick(self, redis_answers: bool = True) -> None:
        """Make a pass if it is time for one."""
        now = time.monotonic()
        if now - self._last_pass < self.EVERY:
            return
        self.watch_workers(now)
        self._last_pass = now
        self._alone(self.lose_orphans)
        self._alone(self.expire)
        self._alone(self.count_ended)
        if now - self._last_sync >= self.SYNC_EVERY:
            self._alone(self.sync_limits)
            self._last_sync = now
        if now - self._last_reopen >= self.REOPEN_EVERY:
            self._alone(self.reopen_lanes)
            self._last_reopen = now
        if redis_answers and now - self._last_look >= settings.TASKRUNS_UNCLAIMED / 2:
            self._alone(self.look_for_messages)
            self._last_look = now

    def _alone(self, step: Callable[[], object]) -> None:
        """Run a step and log its error, so that the next one runs too. Raises the error if a service is away."""
        try:
            step()
        except Exception as error:
            if is_no_answer(error) or is_away(error):
                # A pass that failed half-way counts as a gap.
                self._last_pass = float("-inf")
                raise
            logger.exception("the reconciler failed to %s", step.__name__.replace("_", " "))
            connection.close()

    def sync_limits(self) -> None:
        """Write the limits of the code, and forget the starts that no rate counts any more."""
        sync(current_app.tasks.values())
        limits.forget_starts()

    def reopen_lanes(self) -> None:
        """Have the publisher look again at lanes that have a free place without a note."""
        if opened := limits.reopen_lanes():
            logger.warning("%s lanes had a free place without a note", opened)

    def count_ended(self) -> None:
        """Count ended runs for the operations pages."""
        self.counter.tick(time.monotonic())

    def lose_orphans(self) -> None:
        """Make the runs of dead workers due again."""
        if lost := settle.rescue_orphans():
            logger.warning("%s tasks of dead workers are due again or became dead letters", lost)

    def expire(self) -> None:
        """Expire the runs that no worker has begun in time."""
        if expired := settle.expire_overdue():
            logger.info("%s tasks expired before they ran", expired)

    def watch_workers(self, now: float) -> None:
        """Declare workers dead that have been silent for too long. Count the slots of the others."""
        # The time that counts in spite of a gap.
        most = max(0.0, settings.TASKRUNS_SILENCE - self.HEARTBEATS_AFTER_GAP * settings.TASKRUNS_HEARTBEAT)
        was_gap = now - self._last_pass > self.LONGEST_GAP
        seen: dict[int, tuple[datetime.datetime, float]] = {}
        slots: dict[str, int] = defaultdict(int)
        silent = []
        for worker in workers.alive():
            heartbeat, since = self._seen.get(worker.id, (None, now))
            if heartbeat is None:
                since = now - min(max(0.0, worker.silent), most)
            elif heartbeat != worker.heartbeat:
                since = now
            elif was_gap:
                since = now - min(self._watched_at - since, most)
            seen[worker.id] = worker.heartbeat, since
            if now - since >= settings.TASKRUNS_SILENCE:
                silent.append(worker.id)
                continue
            for queue in worker.queues:
                slots[queue] += worker.slots
        self._seen, self._slots, self._watched_at = seen, slots, now
        if silent:
            logger.warning("workers %s are dead: no heartbeat for %s s", silent, settings.TASKRUNS_SILENCE)
            workers.end(silent, lost=True)

    def look_for_messages(self) -> int:
        """Make runs due again that are published, unclaimed and not in their queue's list. Returns how many.

        Reads the rows before the list. If a worker takes a message in between, its run is claimed, and `unpublish`
        leaves it alone.
        """
        gone: list[uuid.UUID] = []
        for queue, run_ids in dispatch.unclaimed(settings.TASKRUNS_UNCLAIMED).items():
            try:
                there = {run_id_in(message) for message in self.redis.lrange(prefixed(queue), 0, -1)}
            except redis.ResponseError as error:
                if is_away(error):
                    raise
                logger.debug("the list of queue %s cannot be read: %s", queue, error)
                continue
            gone += run_ids - there
        if not gone:
            return 0
        suspect = dispatch.taken_by_the_dead(gone)
        if suspect:
            settle.count_missed_dispatch(suspect, "Each worker that took its message died before it began the task.")
        count = len(suspect) + dispatch.unpublish(set(gone) - suspect)
        if count:
            logger.warning("%s messages are gone from Redis and are published again", count)
        return count
