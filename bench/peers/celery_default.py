"""Celery with its defaults."""

from bench.peers.stock import stock

app, PEER = stock(__name__, "Celery")
