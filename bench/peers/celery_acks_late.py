"""Celery with the settings that its documentation recommends for tasks that should outlive their worker."""

from bench.peers.stock import ACKS_LATE, stock

app, PEER = stock(__name__, "Celery, acks_late", **ACKS_LATE)
