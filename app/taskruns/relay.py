"""The relay: due rows → Redis, up to a window per queue; and the reconciler: what is lost is due again.

Any number may run. No transaction is open across a Redis round trip: mark, commit, push.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
import uuid
from collections import defaultdict

import redis
from celery.utils.nodenames import gethostname
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from app.queues import QUEUES
from app.taskruns import faults, heartbeats, outgoing, terminal
from app.taskruns.events import SentEvents
from app.taskruns.messages import run_id_in
from app.taskruns.metrics import Metrics
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
    """Publishes and reconciles until ``stopping`` is set; survives the absence of Redis and of Postgres."""

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping
        self.redis = broker_client(socket_timeout=5.0)
        self.reconciler = Reconciler(self.redis)
        self.ticker = Ticker("relay")
        self.metrics = Metrics(gethostname())
        self.events = SentEvents()
        self._redis_failed = False
        self._pause = POLL

    def run(self) -> None:
        """Serve until stopped."""
        while not self.stopping.is_set():
            try:
                if self._redis_failed:
                    self.redis.ping()
                    self._redis_failed = False
                    logger.info("Redis is back")
                moved = self.publish()
                self.reconciler.tick()
                self.ticker.tick()
                # A window that was full has room again soon: look often, then ever less so.
                self._pause = POLL_BACKLOG if moved else min(self._pause * 2, POLL)
                self._wait(self._pause)
            except (redis.RedisError, OSError) as error:
                if not self._redis_failed:
                    logger.warning("Redis is away, work waits in Postgres: %s", error)
                self._redis_failed = True
                self._reconcile_without_redis()
                self.stopping.wait(REDIS_PAUSE)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Postgres gave no answer: %s", str(error).strip())
                connection.close()
                self.stopping.wait(REDIS_PAUSE)

    def publish(self) -> int:
        """Push what is due. Returns how many.

        Raises redis.RedisError when Redis did not take it; the rows are then unmarked.
        """
        windows = self.reconciler.windows()
        rows = outgoing.take_due(windows)
        if not rows:
            return 0
        by_queue: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            by_queue[row.queue].append(row.message())
        faults.reach("relay.marked")
        pipeline = self.redis.pipeline(transaction=False)
        for queue, messages in by_queue.items():
            pipeline.lpush(prefixed(queue), *messages)
        try:
            pipeline.execute()
        except (redis.RedisError, OSError):
            outgoing.unpublish(row.run_id for row in rows)
            raise
        faults.reach("relay.pushed")
        for row in rows:
            self.metrics.sent.labels(*self.metrics.task(row.name, row.queue)).inc()
        if settings.CELERY_TASK_SEND_SENT_EVENT:
            self.events.tell(rows)
        return len(rows)

    def _wait(self, seconds: float) -> None:
        self.redis.brpop([prefixed(KEY)], timeout=seconds)

    def _reconcile_without_redis(self) -> None:
        try:
            self.reconciler.tick(redis_answers=False)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Postgres gave no answer: %s", str(error).strip())
            connection.close()


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
        if lost := terminal.lose_orphans():
            logger.warning("%s tasks of dead workers are due again or dead letters", lost)
        if expired := terminal.expire():
            logger.info("%s tasks expired before they ran", expired)
        # Last, so that a pass that failed half-way counts as a gap.
        self._last_pass = now
        if redis_answers and now - self._last_look >= settings.TASKRUNS_UNCLAIMED / 2:
            self.look_for_messages()
            self._last_look = now

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
            there = {run_id_in(message) for message in self.redis.lrange(prefixed(queue), 0, -1)}
            gone += run_ids - there
        if not gone:
            return 0
        count = outgoing.unpublish(gone)
        if count:
            logger.warning("%s messages are gone from Redis and are published again", count)
        return count
