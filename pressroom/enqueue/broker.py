"""The broker (Redis) as the library opens it: a client of its database, and its keys with kombu's prefix."""

from __future__ import annotations

import redis
from django.conf import settings

from pressroom.database.redis import redis_client


def broker_client(socket_timeout: float) -> redis.Redis:
    """Return a client of the broker's database. ``socket_timeout`` is in seconds; see ``pressroom.database.redis``."""
    return redis_client(settings.CELERY_BROKER_URL, socket_timeout)


def prefixed(key: str) -> str:
    """Return the key as kombu writes it, with the ``global_keyprefix`` of ``CELERY_BROKER_TRANSPORT_OPTIONS``."""
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS.get('global_keyprefix', '')}{key}"
