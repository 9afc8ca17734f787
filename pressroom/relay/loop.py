"""The relay runs the publisher (due rows → Redis) and the reconciler (what is lost becomes due again) in a loop.

Any number of relays may run. No transaction is open across a Redis round trip: mark, commit, push.
"""

from __future__ import annotations

import logging
import threading
import time

import redis
from celery.utils.nodenames import gethostname
from django.db import DatabaseError, InterfaceError, connection

from pressroom.database.errors import is_no_answer
from pressroom.database.redis import is_away
from pressroom.enqueue.broker import broker_client, prefixed
from pressroom.enqueue.wakeup import KEY
from pressroom.models import Outage
from pressroom.monitoring.counters import RelayMetrics
from pressroom.relay.publisher import Publisher
from pressroom.relay.reconciler import Reconciler
from pressroom.sql import history, outages
from pressroom.sql.rounds import Ticker

logger = logging.getLogger(__name__)

POLL = 0.25
"""Most seconds between two looks for due rows, if no caller wakes the relay."""
POLL_BACKLOG = 0.02
"""Seconds until the next look after one that found due rows."""
REDIS_PAUSE = 0.5
"""Seconds between two tries to reach Redis."""


class Relay:
    """Publishes and reconciles until ``stopping`` is set. Survives outages of Redis and of Postgres.

    The steps are independent: an error in one is logged and does not stop the others.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping
        self.redis = broker_client(socket_timeout=5.0)
        self.metrics = RelayMetrics(gethostname())
        self.publisher = Publisher(self.redis, self.metrics)
        self.reconciler = Reconciler(self.redis)
        self.ticker = Ticker("relay")
        self._redis_failed = False
        self._failed_at = float("-inf")
        """When Redis was first away, by the monotonic clock."""
        self._is_noted: bool | None = None
        """Whether the ledger says that Redis is away, as far as this process has written it."""
        self._pause = POLL

    def run(self) -> None:
        """Run rounds until ``stopping`` is set."""
        self._make_partitions()
        while not self.stopping.is_set():
            try:
                moved = self._round()
                # A full window soon has room again: look often at first, then less and less often.
                self._pause = POLL_BACKLOG if moved else min(self._pause * 2, POLL)
                self._wait(self._pause)
            except Exception as error:
                if not self._explained(error):
                    logger.exception("the relay's round failed")
                    self.metrics.errors.inc()
                self.stopping.wait(REDIS_PAUSE)

    def _make_partitions(self) -> None:
        """Make the partitions of today and the next days: the installation may have stood still for days."""
        try:
            history.make_ahead(attempts=1)
        except (DatabaseError, InterfaceError):
            logger.exception("the next days' partitions could not be made: the task `prune` tries again")
            connection.close()

    def _round(self) -> int:
        """Run each step once. Returns how many runs were published. Raises a step's error after all steps have run."""
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
            self._note_redis(is_away=self._redis_failed or (failed is not None and is_away(failed)))
            self.reconciler.tick(redis_answers=failed is None)
            self.ticker.tick()
        if failed is not None:
            raise failed
        return moved

    def _note_redis(self, is_away: bool) -> None:
        """Record for the operations pages whether Redis is away, once while it stays the same.

        What a relay has recorded that is gone by now, the next one corrects in its first round.
        """
        if is_away == self._is_noted:
            return
        if is_away:
            outages.begin(Outage.REDIS, time.monotonic() - self._failed_at if self._redis_failed else 0.0)
        else:
            outages.over(Outage.REDIS)
        self._is_noted = is_away

    def _explained(self, error: Exception) -> bool:
        """Log that Postgres or Redis is away, if it is, and return whether. Logs the absence of Redis once."""
        if is_no_answer(error):
            logger.warning("Postgres did not answer: %s", str(error).strip())
            connection.close()
            return True
        if not is_away(error):
            connection.close()
            return False
        if not self._redis_failed:
            logger.warning("Redis is away, work waits in Postgres: %s", error)
            self._failed_at = time.monotonic()
        self._redis_failed = True
        return True

    def _wait(self, seconds: float) -> None:
        try:
            self.redis.brpop([prefixed(KEY)], timeout=seconds)
        except redis.ResponseError as error:
            if is_away(error):
                raise
            # Redis refuses the blocking read, so wait here.
            self.stopping.wait(seconds)
