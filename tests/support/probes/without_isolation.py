"""Loaded into relay, worker or beat, it switches isolation off there: what is wrong with one item is everyone's."""

import redis
from celery.worker.consumer import Consumer

from pressroom.relay.publisher import Publisher
from pressroom.relay.reconciler import Reconciler
from pressroom.worker.consumer import LedgerConsumer


def _is_away(self: Publisher, item: object, error: Exception) -> None:
    raise redis.ConnectionError(f"taken for Redis being away: {error}")


Publisher._refuse = Publisher._leave_alone = _is_away  # type: ignore[method-assign,assignment]
Reconciler._alone = lambda self, step: step()  # type: ignore[method-assign,return-value,func-returns-value]
LedgerConsumer.create_task_handler = Consumer.create_task_handler
