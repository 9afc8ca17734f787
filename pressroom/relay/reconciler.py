"""The reconciler: what dead workers ran, what is gone from Redis and what has expired is put right in the ledger."""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable

import redis
from django.conf import settings
from django.db import connection

from pressroom.conf import WINDOW_LEAST, WINDOW_MOST, WINDOW_PER_SLOT, declared_queues
from pressroom.database.errors import is_no_answer
from pressroom.database.redis import is_away
from pressroom.enqueue.broker import prefixed
from pressroom.enqueue.envelope import run_id_in
from pressroom.execution import settle
from pressroom.sql import dispatch, workers

logger = logging.getLogger(__name__)


class Reconciler:
    """Finds dead workers, messages gone from Redis and rows past their expiry.

    A worker is dead when its heartbeat has not changed for TASKRUNS_SILENCE seconds of our own watching. So no clock
    but this process's monotonic one counts, and a time in which Postgres or we did not answer is nobody's silence.
    """

    EVERY = 1.0
    """Seconds between two passes."""
    LONGEST_GAP = 5.0
    """Seconds between two passes after which the watch begins anew."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client
        self._last_pass = float("-inf")
        self._last_look = float("-inf")
        self._seen: dict[int, tuple[datetime.datetime, float]] = {}
        self._slots: dict[str, int] = {}

    def windows(self) -> dict[str, int]:
        """Per queue, how many messages may be in Redis."""
        return {
            queue.name: min(WINDOW_MOST, max(WINDOW_LEAST, WINDOW_PER_SLOT * self._slots.get(queue.name, 0)))
            for queue in declared_queues().values()
        }

    def tick(self, redis_answers: bool = True) -> None:
        """One pass, if it is time for one."""
        now = time.monotonic()
        if now - self._last_pass < self.EVERY:
            return
        self.watch_workers(now)
        self._last_pass = now
        self._alone(self.lose_orphans)
        self._alone(self.expire)
        if redis_answers and now - self._last_look >= settings.TASKRUNS_UNCLAIMED / 2:
            self._alone(self.look_for_messages)
            self._last_look = now

    def _alone(self, step: Callable[[], object]) -> None:
        """What one step cannot do is no reason not to do the next, unless a service is away."""
        try:
            step()
        except Exception as error:
            if is_no_answer(error) or is_away(error):
                # A pass that failed half-way counts as a gap.
                self._last_pass = float("-inf")
                raise
            logger.exception("the reconciler failed to %s", step.__name__.replace("_", " "))
            connection.close()

    def lose_orphans(self) -> None:
        """What dead workers ran is due again."""
        if lost := settle.rescue_orphans():
            logger.warning("%s tasks of dead workers are due again or dead letters", lost)

    def expire(self) -> None:
        """What was not begun in time never is."""
        if expired := settle.expire_overdue():
            logger.info("%s tasks expired before they ran", expired)

    def watch_workers(self, now: float) -> None:
        """Declare dead the workers that we saw silent for too long; count the slots of the others."""
        if now - self._last_pass > self.LONGEST_GAP:
            self._seen.clear()
        seen: dict[int, tuple[datetime.datetime, float]] = {}
        slots: dict[str, int] = defaultdict(int)
        silent = []
        for worker_id, heartbeat, queues, size in workers.alive():
            known = self._seen.get(worker_id)
            seen[worker_id] = known if known is not None and known[0] == heartbeat else (heartbeat, now)
            if now - seen[worker_id][1] >= settings.TASKRUNS_SILENCE:
                silent.append(worker_id)
                continue
            for queue in queues:
                slots[queue] += size
        self._seen, self._slots = seen, slots
        if silent:
            logger.warning("workers %s are dead: no heartbeat for %s s", silent, settings.TASKRUNS_SILENCE)
            workers.end(silent, lost=True)

    def look_for_messages(self) -> int:
        """Rows published, unclaimed and absent from their list are published again. Returns how many.

        The rows are read before the list: a message taken in between is claimed, and then `unpublish` passes it by.
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
