"""The publisher: due rows → Redis, up to a window per queue. A message that Redis refuses delays no other.

Redis is away only if the connection is gone or Redis says so. The publisher judges any other error per queue and per
message. A queue that Redis refuses is paused and tried again. If Redis refuses a message but accepts others, the
refusals are counted, and the run becomes a dead letter.
"""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections import defaultdict

import redis
from django.conf import settings
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, OutOfMemoryError

from pressroom.database.redis import is_away
from pressroom.enqueue.broker import prefixed
from pressroom.enqueue.envelope import envelope
from pressroom.execution import settle
from pressroom.monitoring.counters import RelayMetrics
from pressroom.process import kill_points
from pressroom.relay.sent_events import SentEvents
from pressroom.sql import dispatch
from pressroom.sql.dispatch import Published
from pressroom.text import carried

logger = logging.getLogger(__name__)

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Least and most seconds for which a queue is paused after Redis refused it. Each pause doubles the last."""
OTHERS_WITHIN = 5.0
"""The first refusal of a message counts if Redis accepted another of the queue within so many seconds before."""
MOST_REMEMBERED = 1_000
"""Most refused messages that are remembered."""


class Publisher:
    """Publishes due runs."""

    def __init__(self, client: redis.Redis, metrics: RelayMetrics) -> None:
        self._redis = client
        self._metrics = metrics
        self._events = SentEvents()
        self._left_alone: dict[str, tuple[float, float]] = {}
        """Queues that Redis refuses: for how many seconds they are paused, and until when (monotonic)."""
        self._took_at: dict[str, float] = {}
        """When Redis last accepted a message, by queue (monotonic)."""
        self._refused_at: dict[uuid.UUID, float] = {}
        """When Redis last refused a run's message (monotonic). These messages are pushed one by one."""

    def publish(self, windows: dict[str, int]) -> int:
        """Publish due runs, up to each queue's window. Returns how many messages Redis accepted.

        Raises redis.RedisError or OSError if Redis is away. The rows that it did not accept are then unmarked.
        """
        now = time.monotonic()
        rows = dispatch.take_due({name: most for name, most in windows.items() if self._is_open(name, now)})
        if not rows:
            return 0
        together: dict[str, list[_Push]] = defaultdict(list)
        alone: dict[str, list[_Push]] = defaultdict(list)
        for row in rows:
            if (push := _as_push(row)) is not None:
                (alone if row.run_id in self._refused_at else together)[row.queue].append(push)
        kill_points.reach("relay.marked")
        try:
            if settings.CELERY_TASK_SEND_SENT_EVENT:
                # First, because a consumer learns the queue of a run from this event only. A message that Redis then
                # refuses has one event for each push.
                self._events.send(push.row for part in (together, alone) for pushes in part.values() for push in pushes)
            try:
                self._push_together(together)
            except Exception as error:
                if isinstance(error, redis.TimeoutError):
                    # Most likely Redis hung. If a message caused that, pushing them one by one will show which.
                    now = time.monotonic()
                    runs = [push.row.run_id for pushes in together.values() for push in pushes][:MOST_REMEMBERED]
                    self._refused_at = dict.fromkeys(runs, now) | self._refused_at
                    raise
                if _says_away(error) or not self._answers():
                    raise
                logger.warning("a push failed although Redis answers; trying again message by message: %s", error)
                self._push_alone(together)
            self._push_alone(alone)
        finally:
            pushes = [push for part in (together, alone) for pushes in part.values() for push in pushes]
            # Some of these messages may be in Redis all the same. The second message of a run then finds no claim.
            if rest := [push.row.run_id for push in pushes if push.is_open]:
                dispatch.unpublish(rest)
        kill_points.reach("relay.pushed")
        taken = [push.row for push in pushes if push.is_taken]
        for row in taken:
            self._metrics.sent.labels(*self._metrics.task(row.name, row.queue)).inc()
        return len(taken)

    def _push_together(self, by_queue: dict[str, list[_Push]]) -> None:
        """Push with one command per queue in one round trip. Raises an error that is not that of one queue."""
        if not by_queue:
            return
        failed = None
        pipeline = self._redis.pipeline(transaction=False)
        for queue, pushes in by_queue.items():
            pipeline.lpush(prefixed(queue), *(push.message for push in pushes))
        for (queue, pushes), answer in zip(by_queue.items(), pipeline.execute(raise_on_error=False), strict=True):
            if not isinstance(answer, Exception):
                self._takes(queue, pushes)
            elif _is_of_queue(answer):
                self._leave_alone(queue, answer)
            else:
                failed = answer
        if failed is not None:
            raise failed

    def _push_alone(self, by_queue: dict[str, list[_Push]]) -> None:
        """Push message by message, to find the queue or the message that Redis refuses.

        Raises the error if Redis is away.
        """
        for queue, pushes in by_queue.items():
            refused: list[tuple[_Push, Exception]] = []
            if not self._is_open(queue, time.monotonic()):
                continue
            for push in pushes:
                if push.is_taken:
                    continue
                try:
                    self._redis.lpush(prefixed(queue), push.message)
                except Exception as error:
                    if _says_away(error) or (is_away(error) and not self._answers()):
                        raise
                    if _is_of_queue(error):
                        self._leave_alone(queue, error)
                        break
                    refused.append((push, error))
                else:
                    self._takes(queue, [push])
            for push, refusal in refused:
                self._refuse(push, refusal)

    def _is_open(self, queue: str, now: float) -> bool:
        return self._left_alone.get(queue, (0.0, 0.0))[1] <= now

    def _answers(self) -> bool:
        try:
            self._redis.ping()
        except (redis.RedisError, OSError):
            return False
        return True

    def _takes(self, queue: str, pushes: list[_Push]) -> None:
        self._took_at[queue] = time.monotonic()
        for push in pushes:
            push.is_open, push.is_taken = False, True
            self._refused_at.pop(push.row.run_id, None)
        if self._left_alone.pop(queue, None) is not None:
            logger.info("Redis accepts messages for queue %s again", queue)
            self._metrics.is_refused.labels(queue).set(0)

    def _leave_alone(self, queue: str, error: Exception) -> None:
        """Pause a queue, for longer each time. Its messages wait in Postgres."""
        pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * self._left_alone.get(queue, (0.0, 0.0))[0]))
        if queue not in self._left_alone:
            logger.error("Redis refuses messages for queue %s, whose work waits in Postgres: %s", queue, error)
        self._left_alone[queue] = pause, time.monotonic() + pause
        self._metrics.refused.labels(queue).inc()
        self._metrics.is_refused.labels(queue).set(1)

    def _refuse(self, push: _Push, error: Exception) -> None:
        """Postpone a message, for longer each time. The refusal counts if Redis accepts others of the queue."""
        row = push.row
        before = self._refused_at.get(row.run_id, time.monotonic() - OTHERS_WITHIN)
        counts = is_away(error) or "Protocol error" in str(error) or self._took_at.get(row.queue, 0.0) > before
        if len(self._refused_at) >= MOST_REMEMBERED:
            self._refused_at.clear()
        self._refused_at[row.run_id] = time.monotonic()
        logger.error("Redis refuses the message of %s[%s]: %s", row.name, row.run_id, error)
        self._metrics.refused.labels(row.queue).inc()
        push.is_open = False
        settle.count_refused_dispatch(
            row.run_id, RedisRefusedError(f"Redis refuses its message: {carried(error)}"), counts
        )


class RedisRefusedError(Exception):
    """Redis accepts other messages of the queue but refuses this one."""


@dataclasses.dataclass(slots=True)
class _Push:
    row: Published
    message: str
    is_open: bool = True
    """Whether the push failed or its result is unknown. The row must then not stay marked."""
    is_taken: bool = False


def _message(row: Published) -> str:
    """Return the message for Redis. That of a run with losses says that it was delivered before."""
    return envelope(
        row.queue, row.headers, row.body, row.properties, row.run_id,
        attempt=row.attempt, priority=row.priority, redelivered=row.losses > 0, due=row.run_at.timestamp(),
    )  # fmt: skip


def _as_push(row: Published) -> _Push | None:
    """Return the push of a row. If no message can be made of the row, fails the run and returns None."""
    try:
        return _Push(row, _message(row))
    except Exception as error:
        logger.exception("no message can be made of run %s", row.run_id)
        settle.fail_unclaimed(row.run_id, error)
        return None


def _says_away(error: Exception) -> bool:
    """Return whether Redis itself says that it is away. A cut connection proves nothing: a message may have cut it."""
    cut = (redis.ConnectionError, redis.TimeoutError, OSError)
    return is_away(error) and (not isinstance(error, cut) or isinstance(error, BusyLoadingError | AuthenticationError))


def _is_of_queue(error: Exception) -> bool:
    """Return whether Redis refuses the key or all writes: no memory, no permission, another type."""
    return isinstance(error, OutOfMemoryError | NoPermissionError) or str(error).startswith(
        ("WRONGTYPE", "MISCONF", "NOREPLICAS", "OOM", "NOPERM")
    )
