"""The relay: the publisher (due rows → Redis), and the reconciler: what is lost is due again.

Any number may run. No transaction is open across a Redis round trip: mark, commit, push.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable

import redis
from celery.utils.nodenames import gethostname
from django.conf import settings
from django.db import connection

from app.postgres import is_no_answer
from app.queues import QUEUES
from app.redis import is_away
from app.taskruns import dispatches, heartbeats, outgoing, terminal
from app.taskruns.messages import run_id_in
from app.taskruns.metrics import RelayMetrics
from app.taskruns.publisher import Publisher
from app.taskruns.ticks import Ticker
from app.taskruns.wake import KEY, broker_client, prefixed

logger = logging.getLogger(__name__)

WINDOW_PER_SLOT, WINDOW_LEAST, WINDOW_MOST = 20, 40, 2_000
"""Messages of one queue in Redis: the rest wait in Postgres."""
POLL = 0.25
"""Seconds between two looks for due rows when nobody wakes us."""
POLL_BACKLOG = 0.02
"""The same just after some were found."""
REDIS_PAUSE = 0.5
"""Seconds between two tries to reach Redis."""


class Relay:
    """Publishes and reconciles until ``stopping`` is set; survives the absence of Redis and of Postgres.

    Each step is by itself: what goes wrong in one, whatever it is, is logged and does not keep the others.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping
        self.redis = broker_client(socket_timeout=5.0)
        self.metrics = RelayMetrics(gethostname())
        self.publisher = Publisher(self.redis, self.metrics)
        self.reconciler = Reconciler(self.redis)
        self.ticker = Ticker("relay")
        self._redis_failed = False
        self._pause = POLL

    def run(self) -> None:
        """Serve until stopped."""
        while not self.stopping.is_set():
            try:
                moved = self._round()
                # A window that was full has room again soon: look often, then ever less so.
                self._pause = POLL_BACKLOG if moved else min(self._pause * 2, POLL)
                self._wait(self._pause)
            except Exception as error:
                if not self._explained(error):
                    logger.exception("the relay's round failed")
                    self.metrics.errors.inc()
                self.stopping.wait(REDIS_PAUSE)

    def _round(self) -> int:
        """Returns how many runs were given to Redis. What a step raised is raised once all have had their turn."""
        moved, failed = 0, None
        try:
            if self._redis_failed:
                self.redis.ping()
            moved = self.publisher.publish(self.reconciler.windows())
            if self._redis_failed:
                self._redis_failed = False
                logger.info("Redis is back")
        except Exception as error:  # noqa: BLE001 - raised below
            failed = error
        if failed is None or not is_no_answer(failed):
            self.reconciler.tick(redis_answers=failed is None)
            self.ticker.tick()
        if failed is not None:
            raise failed
        return moved

    def _explained(self, error: Exception) -> bool:
        """Whether a service is away, which is said once."""
        if is_no_answer(error):
            logger.warning("Postgres gave no answer: %s", str(error).strip())
            connection.close()
            return True
        if not is_away(error):
            connection.close()
            return False
        if not self._redis_failed:
            logger.warning("Redis is away, work waits in Postgres: %s", error)
        self._redis_failed = True
        return True

    def _wait(self, seconds: float) -> None:
        try:
            self.redis.brpop([prefixed(KEY)], timeout=seconds)
        except redis.ResponseError as error:
            if is_away(error):
                raise
            # It does not let us wait there.
            self.stopping.wait(seconds)


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
            for queue in QUEUES
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
        if lost := terminal.lose_orphans():
            logger.warning("%s tasks of dead workers are due again or dead letters", lost)

    def expire(self) -> None:
        """What was not begun in time never is."""
        if expired := terminal.expire():
            logger.info("%s tasks expired before they ran", expired)

    def watch_workers(self, now: float) -> None:
        """Declare dead the workers that we saw silent for too long; count the slots of the others."""
        if now - self._last_pass > self.LONGEST_GAP:
            self._seen.clear()
        seen: dict[int, tuple[datetime.datetime, float]] = {}
        slots: dict[str, int] = defaultdict(int)
        silent = []
        for worker_id, heartbeat, queues, size in heartbeats.alive():
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
            heartbeats.end(silent, lost=True)

    def look_for_messages(self) -> int:
        """Rows published, unclaimed and absent from their list are published again. Returns how many.

        The rows are read before the list: a message taken in between is claimed, and then `unpublish` passes it by.
        """
        gone: list[uuid.UUID] = []
        for queue, run_ids in outgoing.unclaimed(settings.TASKRUNS_UNCLAIMED).items():
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
        suspect = dispatches.taken_by_the_dead(gone)
        if suspect:
            terminal.miss(suspect, "Each worker that took its message died before it began the task.")
        count = len(suspect) + outgoing.unpublish(set(gone) - suspect)
        if count:
            logger.warning("%s messages are gone from Redis and are published again", count)
        return count
