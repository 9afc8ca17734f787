"""Celery as it comes."""

from bench.peers.stock import stock

app, PEER = stock(__name__, "Celery")
